use portolan_kernel::{Money, OrderId};

use super::Kind;

/// How an order ended, as far as the customer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Completed, and this was paid.
    Completed(Money),
    /// Cancelled, for this reason (`snake_case`).
    Cancelled(String),
}

impl Ending {
    /// What kind of message says so.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Completed(_) => Kind::Confirmed,
            Self::Cancelled(_) => Kind::Cancelled,
        }
    }
}

/// A message, ready to be put into an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The `Subject`.
    pub subject: String,
    /// The text.
    pub body: String,
}

/// The `Message-ID` (RFC 5322, section 3.6.4) without its angle brackets: the same at every
/// attempt, whoever makes it.
pub fn message_id(order: OrderId, kind: Kind) -> String {
    format!("{order}.{}@portolan", kind.as_str())
}

/// The address of a user, by the configured template.
pub fn recipient(template: &str, user_id: &str) -> String {
    template.replace("{user}", user_id)
}

/// What the customer reads.
pub fn letter(order: OrderId, ending: &Ending) -> Letter {
    // Short lines travel as they are, without a transfer encoding.
    match ending {
        Ending::Completed(paid) => Letter {
            subject: format!("Your order {order} is confirmed"),
            body: format!(
                "Thank you.\n\nYour order {order} is complete.\nYou paid {}.\n",
                show(*paid)
            ),
        },
        Ending::Cancelled(reason) => Letter {
            subject: format!("Your order {order} is cancelled"),
            body: format!(
                "Your order {order} is cancelled:\n{}.\nYou have not been charged.\n",
                explain(reason)
            ),
        },
    }
}

fn explain(reason: &str) -> &str {
    match reason {
        "out_of_stock" => "we do not have enough of what you ordered",
        "payment_declined" => "your card was declined",
        "timeout" => "your payment was not confirmed in time",
        "customer" => "as you asked",
        "capture_failed" => "your payment could not be collected",
        _ => "it could not be carried out",
    }
}

/// The amount with two decimals, as in all currencies of the catalogue.
fn show(money: Money) -> String {
    let (whole, rest) = (money.minor_units / 100, money.minor_units % 100);
    format!("{} {whole}.{:02}", money.currency, rest.abs())
}

#[cfg(test)]
mod tests {
    use portolan_kernel::Currency;

    use super::*;

    fn order() -> OrderId {
        "01936d3c-0000-7000-8000-000000000001".parse().unwrap()
    }

    #[test]
    fn a_message_names_the_order_and_what_was_paid() {
        let letter = letter(order(), &Ending::Completed(Money::new(123_405, Currency::GBP)));
        assert!(letter.subject.contains("01936d3c-0000-7000-8000-000000000001 is confirmed"));
        assert!(letter.body.contains("\nYou paid GBP 1234.05.\n"), "{}", letter.body);
    }

    #[test]
    fn a_cancellation_says_why() {
        let letter = letter(order(), &Ending::Cancelled("payment_declined".to_owned()));
        assert!(letter.subject.ends_with("is cancelled"));
        assert!(letter.body.contains("your card was declined"), "{}", letter.body);
    }

    #[test]
    fn the_message_id_is_made_from_order_and_kind_alone() {
        assert_eq!(
            message_id(order(), Kind::Cancelled),
            "01936d3c-0000-7000-8000-000000000001.cancelled@portolan"
        );
    }
}
