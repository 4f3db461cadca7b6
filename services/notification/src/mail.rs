//! The way to the mail server (SMTP, RFC 5321).
//!
//! Every attempt has a connection of its own. A conversation that was broken off still owes an
//! answer, and on a shared connection that answer would be taken for the next message's.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use lettre::{
    Address, Message,
    message::{Mailbox, header::ContentType},
    transport::smtp::{self, client::AsyncSmtpConnection, extension::ClientId},
};
use portolan_kernel::OrderId;
use portolan_runtime::config::Invalid;
use time::OffsetDateTime;

use crate::{
    config::{Server, SmtpConfig},
    domain::{Ending, Verdict, letter, message_id, recipient},
};

/// The longest answer of a mail server that is kept.
const MAX_ANSWER_CHARS: usize = 300;

/// Authentication failures (RFC 4954, section 6): the fault of our configuration, not of the
/// message, so they are no reason to give the message up.
const AUTHENTICATION: [u16; 4] = [530, 534, 535, 538];

/// How long to wait for the answer to `QUIT`.
const FAREWELL: Duration = Duration::from_secs(1);

/// A message to one customer.
#[derive(Clone, Copy, Debug)]
pub struct Mail<'a> {
    /// The order it is about.
    pub order: OrderId,
    /// Whom to tell.
    pub user_id: &'a str,
    /// What to tell.
    pub ending: &'a Ending,
    /// The `Date`: when the order ended, so that every attempt is the same message.
    pub date: OffsetDateTime,
}

/// Hands messages over to a mail server.
#[derive(Debug)]
pub struct Mailer {
    server: Server,
    hello: ClientId,
    from: Mailbox,
    template: String,
    timeout: Duration,
}

/// What is left to say to the mail server when the verdict is known.
#[must_use = "the mail server waits for it"]
pub struct Farewell(Option<AsyncSmtpConnection>);

impl Mailer {
    /// The name in the mail ledger.
    pub const VIA: &'static str = "smtp";

    /// The mailer that this configuration asks for: none without a mail server.
    ///
    /// # Errors
    /// Names the key that cannot be used.
    pub fn new(config: &SmtpConfig) -> Result<Option<Self>, Invalid> {
        let Some(server) = config.server()? else { return Ok(None) };
        Ok(Some(Self {
            server,
            hello: ClientId::default(),
            from: config.sender()?,
            template: config.recipient_template.clone(),
            timeout: config.timeout(),
        }))
    }

    /// Hands a message over, within the configured timeout.
    pub async fn send(&self, mail: &Mail<'_>) -> (Verdict, Farewell) {
        let recipient = recipient(&self.template, mail.user_id);
        let message = match self.compose(&recipient, mail) {
            Ok(message) => message,
            Err(problem) => return (Verdict::Permanent(problem), Farewell(None)),
        };
        // The future owns the connection: a timeout drops it, which closes the socket.
        match tokio::time::timeout(self.timeout, self.converse(&message)).await {
            Ok(Ok(connection)) => (Verdict::Accepted, Farewell(Some(connection))),
            Ok(Err(error)) => (judge(&error, &recipient), Farewell(None)),
            Err(_) => {
                let problem = "the mail server took too long".to_owned();
                (Verdict::Temporary(problem), Farewell(None))
            }
        }
    }

    /// Delivers the message. A connection on which something failed is closed by lettre.
    async fn converse(&self, message: &Message) -> Result<AsyncSmtpConnection, smtp::Error> {
        let Server { host, port } = &self.server;
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            (host.as_str(), *port),
            None,
            &self.hello,
            None,
            None,
        )
        .await?;
        connection.send(message.envelope(), &message.formatted()).await?;
        Ok(connection)
    }

    fn compose(&self, recipient: &str, mail: &Mail<'_>) -> Result<Message, String> {
        let address: Address =
            recipient.parse().map_err(|_| "the recipient's address is not valid".to_owned())?;
        let letter = letter(mail.order, mail.ending);
        Message::builder()
            .message_id(Some(format!("<{}>", message_id(mail.order, mail.ending.kind()))))
            .date(SystemTime::from(mail.date))
            .from(self.from.clone())
            .to(Mailbox::new(None, address))
            .subject(letter.subject)
            .header(ContentType::TEXT_PLAIN)
            .body(letter.body)
            .map_err(|error| error.to_string())
    }
}

impl Farewell {
    /// Says it, and waits for the answer, which changes nothing, for a moment.
    pub async fn say(self) {
        if let Some(mut connection) = self.0
            && !matches!(tokio::time::timeout(FAREWELL, connection.quit()).await, Ok(Ok(_)))
        {
            tracing::debug!("the mail server did not say goodbye");
        }
    }
}

impl fmt::Debug for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Farewell").field(&self.0.is_some()).finish()
    }
}

fn judge(error: &smtp::Error, recipient: &str) -> Verdict {
    // Events carry no personal data, and servers like to quote the address.
    let answer = printable(&error.to_string().replace(recipient, "<recipient>"));
    let ours = error.status().is_some_and(|code| AUTHENTICATION.contains(&u16::from(code)));
    if error.is_permanent() && !ours {
        Verdict::Permanent(answer)
    } else {
        Verdict::Temporary(answer)
    }
}

/// The beginning of what a mail server said, without control characters: PostgreSQL stores no NUL,
/// and nobody's terminal should obey a mail server.
fn printable(answer: &str) -> String {
    let replace = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    answer.chars().map(replace).take(MAX_ANSWER_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_without_control_characters_and_cut() {
        assert_eq!(
            printable("no\0such\r\n\u{1b}[1museré"),
            "no\u{fffd}such\u{fffd}\u{fffd}\u{fffd}[1museré"
        );
        assert_eq!(printable(&"é".repeat(1000)).chars().count(), MAX_ANSWER_CHARS);
    }
}
