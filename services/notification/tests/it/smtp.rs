//! A mail server that listens on a port of its own, takes messages down, and answers the first
//! recipients with what the test wants.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
};

/// A message as the server received it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) recipient: String,
    pub(crate) text: String,
}

impl Received {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next()?;
        head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

struct Shared {
    /// Closed until the test lets the late answers out.
    gate: Semaphore,
    answers: Mutex<VecDeque<&'static str>>,
    attempts: Mutex<Vec<String>>,
    accepted: Mutex<Vec<Received>>,
}

pub(crate) struct MailServer {
    shared: Arc<Shared>,
    port: u16,
    task: AbortHandle,
}

impl MailServer {
    /// Answers the first ends of `DATA` with these lines, and every later one with 250. An answer
    /// that begins with `late ` waits for [`Self::answer_the_late`].
    pub(crate) async fn start(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            gate: Semaphore::new(0),
            answers: Mutex::new(answers.iter().copied().collect()),
            attempts: Mutex::default(),
            accepted: Mutex::default(),
        });
        let mut connections = JoinSet::new();
        let serve = {
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(converse(stream, Arc::clone(&shared)));
                }
            }
        };
        #[expect(clippy::disallowed_methods, reason = "a server of the test, ended with it")]
        let task = tokio::spawn(serve).abort_handle();
        Self { shared, port, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// Lets the late answers out.
    pub(crate) fn answer_the_late(&self) {
        self.shared.gate.close();
    }

    /// The `Message-ID` of every attempt, accepted or not.
    pub(crate) fn attempts(&self) -> Vec<String> {
        self.shared.attempts.lock().unwrap().clone()
    }

    pub(crate) fn accepted(&self) -> Vec<Received> {
        self.shared.accepted.lock().unwrap().clone()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 test ESMTP\r\n").await.ok()?;
    let mut recipient = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let command = line.trim_end();
        let answer = match command.get(..4).unwrap_or_default().to_uppercase().as_str() {
            "EHLO" | "HELO" | "MAIL" | "RSET" | "NOOP" => "250 OK",
            "RCPT" => {
                let (_, address) = command.split_once('<')?;
                address.trim_end_matches('>').clone_into(&mut recipient);
                "250 OK"
            }
            "DATA" => {
                stream.write_all(b"354 go ahead\r\n").await.ok()?;
                let text = read_message(&mut stream).await?;
                take(&shared, Received { recipient: recipient.clone(), text }).await
            }
            "QUIT" => "221 bye",
            _ => "500 what?",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
}

async fn read_message(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line == ".\r\n" {
            return Some(text);
        }
        text.push_str(&line);
    }
}

async fn take(shared: &Shared, message: Received) -> &'static str {
    let id = message.header("Message-ID").unwrap_or_default().to_owned();
    let answer = shared.answers.lock().unwrap().pop_front().unwrap_or("250 taken");
    shared.attempts.lock().unwrap().push(id);
    let answer = match answer.strip_prefix("late ") {
        // Nobody ever adds a permit: this waits until the gate is closed for good.
        Some(answer) => shared.gate.acquire().await.map_or(answer, |_| answer),
        None => answer,
    };
    if answer.starts_with('2') {
        shared.accepted.lock().unwrap().push(message);
    }
    answer
}
