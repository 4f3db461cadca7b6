/// How the provider behaves towards a card; see the table in the [module's documentation](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    Good,
    InsufficientFunds,
    Hangs,
    AnswersLate,
    FailsAfterwards,
    CaptureFails,
    FailsAtFirst,
    Unknown,
}

const PREFIXES: [(&str, Card); 7] = [
    ("tok_ok", Card::Good),
    ("tok_declined", Card::InsufficientFunds),
    ("tok_hang", Card::Hangs),
    ("tok_late", Card::AnswersLate),
    ("tok_error", Card::FailsAfterwards),
    ("tok_capture_fails", Card::CaptureFails),
    ("tok_flaky", Card::FailsAtFirst),
];

impl Card {
    /// The card that a token stands for.
    pub fn of(token: &str) -> Self {
        PREFIXES
            .into_iter()
            .find(|(prefix, _)| token.starts_with(prefix))
            .map_or(Self::Unknown, |(_, card)| card)
    }

    /// Why the card is declined, if it is.
    pub const fn decline_code(self) -> Option<&'static str> {
        match self {
            Self::InsufficientFunds => Some("insufficient_funds"),
            Self::Unknown => Some("unknown_token"),
            Self::Good
            | Self::Hangs
            | Self::AnswersLate
            | Self::FailsAfterwards
            | Self::CaptureFails
            | Self::FailsAtFirst => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_hides_another() {
        for (prefix, card) in PREFIXES {
            assert_eq!(Card::of(prefix), card);
            assert_eq!(Card::of(&format!("{prefix}_4711")), card);
        }
    }

    #[test]
    fn a_token_that_is_not_in_the_table_is_declined() {
        for token in ["", "tok_", "visa", " tok_ok"] {
            assert_eq!(Card::of(token).decline_code(), Some("unknown_token"), "{token:?}");
        }
    }
}
