use std::{fmt, str::FromStr};

/// A stock keeping unit: 1 to 64 bytes of printable text without white space, compared by its
/// bytes as the database does (collation "C").
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sku(String);

/// The text cannot be a SKU, so no product has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 bytes of printable text without white space")]
pub struct InvalidSku;

impl Sku {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl TryFrom<String> for Sku {
    type Error = InvalidSku;

    fn try_from(text: String) -> Result<Self, InvalidSku> {
        let printable = |c: char| !c.is_whitespace() && !c.is_control();
        if (1..=64).contains(&text.len()) && text.chars().all(printable) {
            Ok(Self(text))
        } else {
            Err(InvalidSku)
        }
    }
}

impl FromStr for Sku {
    type Err = InvalidSku;

    fn from_str(text: &str) -> Result<Self, InvalidSku> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sku_is_short_printable_text() {
        for good in ["85123A", "22197", "é", &"x".repeat(64)] {
            assert!(good.parse::<Sku>().is_ok(), "{good:?}");
        }
        for bad in ["", " ", "a b", "a\0", "a\n", "\u{7f}", &"x".repeat(65), &"é".repeat(33)] {
            assert_eq!(bad.parse::<Sku>(), Err(InvalidSku), "{bad:?}");
        }
    }

    #[test]
    fn skus_sort_by_their_bytes() {
        let mut skus: Vec<Sku> = ["b", "a", "é", "B", "10"].map(|s| s.parse().unwrap()).into();
        skus.sort();
        let texts: Vec<&str> = skus.iter().map(Sku::as_str).collect();
        assert_eq!(texts, ["10", "B", "a", "b", "é"]);
    }
}
