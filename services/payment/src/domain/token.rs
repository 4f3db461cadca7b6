use std::fmt;

/// The provider's single-use token for a card. Its `Debug` hides it; it is needed until the
/// authorisation is decided and kept no longer.
#[derive(Clone, PartialEq, Eq)]
pub struct CardToken(String);

impl CardToken {
    /// Wraps a token.
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The token itself, for the provider and for the payment's row only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CardToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_token_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", CardToken::new("tok_ok_7".to_owned())).contains("tok_ok_7"));
    }
}
