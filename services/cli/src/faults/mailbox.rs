//! A mail server that takes every message and keeps none, so that the mails of an installation have
//! somewhere to go.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

/// Listens until the last clone of it is gone.
#[derive(Clone, Debug)]
pub(super) struct Mailbox {
    address: SocketAddr,
    _listening: Arc<JoinSet<()>>,
}

impl Mailbox {
    /// Opens one at a port of its own.
    ///
    /// # Errors
    /// There is no port.
    pub(super) async fn open() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut listening = JoinSet::new();
        listening.spawn(accept(listener));
        Ok(Self { address, _listening: Arc::new(listening) })
    }

    /// Where it is, as the notification service wants it.
    pub(super) fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }
}

async fn accept(listener: TcpListener) {
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    conversations.spawn(async { converse(stream).await.unwrap_or_default() });
                }
                // Out of descriptors, perhaps: others will be closed.
                Err(_) => sleep(Duration::from_millis(100)).await,
            },
            Some(_) = conversations.join_next() => {}
        }
    }
}

/// As much of SMTP as it takes to be given messages (RFC 5321).
async fn converse(mut stream: TcpStream) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 mailbox\r\n").await?;
    let mut in_message = false;
    while let Some(line) = lines.next_line().await? {
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_str() {
            _ if in_message && line != "." => continue,
            "DATA" if !in_message => "354 go on",
            "QUIT" if !in_message => "221 bye",
            _ => "250 OK",
        };
        in_message = answer.starts_with("354");
        writer.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn it_takes_one_message_after_the_other() {
        let mailbox = Mailbox::open().await.unwrap();
        let mut client = TcpStream::connect(mailbox.address).await.unwrap();
        let message = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: x\r\n\r\nQUIT\r\n.\r\n";
        let all = format!("EHLO x\r\n{message}{message}QUIT\r\n");
        client.write_all(all.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        let codes: Vec<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
        let one = ["250", "250", "354", "250"];
        assert_eq!(codes, [&["220", "250"], one.as_slice(), one.as_slice(), &["221"]].concat());
    }
}
