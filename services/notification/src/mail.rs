//! The way to the mail server (SMTP, RFC 5321), or to nowhere.

use std::time::{Duration, SystemTime};

use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{self, PoolConfig},
};
use portolan_kernel::OrderId;
use portolan_runtime::config::Invalid;
use time::OffsetDateTime;

use crate::{
    config::SmtpConfig,
    domain::{Ending, Verdict, letter, message_id, recipient},
};

/// The longest answer of a mail server that is kept.
const MAX_ANSWER_CHARS: usize = 300;

/// Authentication failures (RFC 4954, section 6): the fault of our configuration, not of the
/// message, so they are no reason to give the message up.
const AUTHENTICATION: [u16; 4] = [530, 534, 535, 538];

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

/// Hands messages over.
#[derive(Debug)]
pub enum Mailer {
    /// To a mail server.
    Smtp(Box<Smtp>),
    /// Nowhere: no mail server is configured, and what the ledger says is all there is.
    Recorder,
}

/// A mail server and how to write to it.
#[derive(Debug)]
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    template: String,
    timeout: Duration,
}

impl Mailer {
    /// The mailer that this configuration asks for.
    ///
    /// # Errors
    /// Names the key that cannot be used.
    pub fn new(config: &SmtpConfig) -> Result<Self, Invalid> {
        let Some(server) = config.server()? else { return Ok(Self::Recorder) };
        let timeout = config.timeout();
        let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.host)
            .port(server.port)
            .timeout(Some(timeout))
            .pool_config(PoolConfig::new().max_size(config.concurrency))
            .build();
        let from = config.sender()?;
        let template = config.recipient_template.clone();
        Ok(Self::Smtp(Box::new(Smtp { transport, from, template, timeout })))
    }

    /// The name in the mail ledger.
    pub const fn via(&self) -> &'static str {
        match self {
            Self::Smtp(_) => "smtp",
            Self::Recorder => "recorded",
        }
    }

    /// Hands a message over, within the configured timeout.
    pub async fn send(&self, mail: &Mail<'_>) -> Verdict {
        match self {
            Self::Smtp(smtp) => smtp.send(mail).await,
            Self::Recorder => Verdict::Accepted,
        }
    }
}

impl Smtp {
    async fn send(&self, mail: &Mail<'_>) -> Verdict {
        let recipient = recipient(&self.template, mail.user_id);
        let message = match self.compose(&recipient, mail) {
            Ok(message) => message,
            Err(problem) => return Verdict::Permanent(problem),
        };
        match tokio::time::timeout(self.timeout, self.transport.send(message)).await {
            Ok(Ok(_)) => Verdict::Accepted,
            Ok(Err(error)) => judge(&error, &recipient),
            Err(_) => Verdict::Temporary("the mail server took too long".to_owned()),
        }
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

fn judge(error: &smtp::Error, recipient: &str) -> Verdict {
    // Events carry no personal data, and servers like to quote the address.
    let answer: String = error
        .to_string()
        .replace(recipient, "<recipient>")
        .chars()
        .take(MAX_ANSWER_CHARS)
        .collect();
    let ours = error.status().is_some_and(|code| AUTHENTICATION.contains(&u16::from(code)));
    if error.is_permanent() && !ours {
        Verdict::Permanent(answer)
    } else {
        Verdict::Temporary(answer)
    }
}
