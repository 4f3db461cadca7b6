use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An ISO 4217 currency code: three capital letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// Pounds sterling, the currency of the catalogue that comes with Portolan.
    pub const GBP: Self = Self(*b"GBP");

    /// The code as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(MoneyError::Currency),
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = MoneyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.as_str().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount in integer minor units of one currency. Never negative by itself: what is owed back
/// is said by the kind of the ledger entry, not by a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Minor units: pence, cents.
    pub minor_units: i64,
    /// The currency.
    pub currency: Currency,
}

/// Why two amounts have no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("the currencies differ")]
    MixedCurrencies,
    #[error("the amount is out of range")]
    Overflow,
    #[error("a currency is three capital letters")]
    Currency,
}

impl Money {
    /// An amount in minor units.
    pub const fn new(minor_units: i64, currency: Currency) -> Self {
        Self { minor_units, currency }
    }

    /// The sum.
    ///
    /// # Errors
    /// The currencies differ, or the sum does not fit.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::MixedCurrencies);
        }
        let sum = self.minor_units.checked_add(other.minor_units).ok_or(MoneyError::Overflow)?;
        Ok(Self::new(sum, self.currency))
    }

    /// The price of `quantity` pieces.
    ///
    /// # Errors
    /// The product does not fit.
    pub fn checked_mul(self, quantity: u32) -> Result<Self, MoneyError> {
        let product =
            self.minor_units.checked_mul(i64::from(quantity)).ok_or(MoneyError::Overflow)?;
        Ok(Self::new(product, self.currency))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_of_different_currencies_have_no_sum() {
        let dollars = Money::new(1, "USD".parse().unwrap());
        assert_eq!(
            Money::new(1, Currency::GBP).checked_add(dollars),
            Err(MoneyError::MixedCurrencies)
        );
    }

    #[test]
    fn a_currency_is_three_capital_letters() {
        assert!("GBP".parse::<Currency>().is_ok());
        for bad in ["", "gbp", "GBPX", "G1P", "£££"] {
            assert!(bad.parse::<Currency>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn sums_agree_with_wider_arithmetic_or_refuse(a in any::<i64>(), b in any::<i64>(), q in any::<u32>()) {
            let (x, y) = (Money::new(a, Currency::GBP), Money::new(b, Currency::GBP));
            let sum = i128::from(a) + i128::from(b);
            prop_assert_eq!(x.checked_add(y).ok().map(|m| i128::from(m.minor_units)), i64::try_from(sum).ok().map(i128::from));
            let product = i128::from(a) * i128::from(q);
            prop_assert_eq!(x.checked_mul(q).ok().map(|m| i128::from(m.minor_units)), i64::try_from(product).ok().map(i128::from));
        }
    }
}
