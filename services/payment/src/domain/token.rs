use std::fmt;

/// The provider's single-use token for a card. Its `Debug` hides it; it is needed until the
/// authorisation is decided and kept no longer.
#[derive(Clone, PartialEq, Eq)]
pub struct CardToken(String);

impl CardToken {
    /// The longest token, in characters.
    pub const MAX_LEN: usize = 200;

    /// Reads a token from outside; none if no provider would ever accept it, because it is empty,
    /// too long, or not graphic ASCII throughout.
    pub fn parse(token: String) -> Option<Self> {
        let graphic = token.bytes().all(|byte| byte.is_ascii_graphic());
        (graphic && (1..=Self::MAX_LEN).contains(&token.len())).then_some(Self(token))
    }

    /// Wraps a token that was accepted before.
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
    fn a_token_is_1_to_200_graphic_ascii_characters() {
        let longest = "x".repeat(200);
        for good in ["!", "~", "tok_ok_7", &longest] {
            assert_eq!(CardToken::parse(good.to_owned()).unwrap().expose(), good);
        }
        let longer = "x".repeat(201);
        for bad in ["", " ", "tok ok", "tok\0", "tok\n", "t\u{f6}k", "\u{7f}", &longer] {
            assert!(CardToken::parse(bad.to_owned()).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_card_token_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", CardToken::new("tok_ok_7".to_owned())).contains("tok_ok_7"));
    }
}
