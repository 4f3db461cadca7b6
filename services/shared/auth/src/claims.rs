use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

/// What a caller may be. A caller can be several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Places orders and sees their own.
    Customer,
    /// Sees every order.
    Operator,
}

impl Role {
    /// The name in tokens and in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is customer or operator")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "customer" => Ok(Self::Customer),
            "operator" => Ok(Self::Operator),
            _ => Err(UnknownRole),
        }
    }
}

/// The claims of a verified token. Times are seconds since 1970 (RFC 7519 `NumericDate`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who signed it.
    pub iss: String,
    /// The caller's name: the user id of every other service.
    pub sub: String,
    /// What the caller may be: the names on our list found in the claims `roles` and `scope`.
    #[serde(default, deserialize_with = "known_roles")]
    pub roles: Vec<Role>,
    /// When it ends.
    #[serde(deserialize_with = "seconds")]
    pub exp: i64,
    /// When it begins, if it says so.
    #[serde(
        default,
        deserialize_with = "optional_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub nbf: Option<i64>,
    /// When it was made, if it says so.
    #[serde(
        default,
        deserialize_with = "optional_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub iat: Option<i64>,
    /// Its id, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The role names of identity providers that use OAuth scopes (RFC 8693), by spaces.
    #[serde(default, skip_serializing)]
    scope: Option<String>,
}

impl Claims {
    /// Whether the caller is this.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role) || self.scopes().any(|name| name == role.as_str())
    }

    fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scope.as_deref().unwrap_or_default().split(' ')
    }
}

/// Whether the text can be a user id everywhere: 1 to 255 bytes, no control
/// character (`PostgreSQL` refuses NUL, logs must not be forged by line ends).
pub fn valid_subject(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Ignores names that are not ours: an identity provider has roles for other systems too.
fn known_roles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Role>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// A `NumericDate` may have a fraction (RFC 7519 section 2).
#[derive(Deserialize)]
#[serde(untagged)]
enum NumericDate {
    Whole(i64),
    Fraction(f64),
}

impl NumericDate {
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what is wanted")]
    fn seconds(&self) -> i64 {
        match self {
            Self::Whole(seconds) => *seconds,
            Self::Fraction(seconds) => seconds.floor() as i64,
        }
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Ok(NumericDate::deserialize(deserializer)?.seconds())
}

fn optional_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::<NumericDate>::deserialize(deserializer)?.map(|date| date.seconds()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_come_from_the_claim_or_from_the_scope_and_foreign_ones_are_ignored() {
        let claims: Claims = serde_json::from_value(serde_json::json!({
            "iss": "i", "sub": "s", "exp": 1, "roles": ["uma_authorization", "customer"],
            "scope": "openid operator",
        }))
        .unwrap();
        assert_eq!(claims.roles, [Role::Customer]);
        assert!(claims.has(Role::Customer) && claims.has(Role::Operator));
    }

    #[test]
    fn a_time_may_have_a_fraction() {
        let claims: Claims = serde_json::from_value(serde_json::json!({
            "iss": "i", "sub": "s", "exp": 12.9, "nbf": 3.5,
        }))
        .unwrap();
        assert_eq!((claims.exp, claims.nbf), (12, Some(3)));
        assert!(!claims.has(Role::Customer), "no role is given away");
    }

    #[test]
    fn a_user_id_has_no_control_characters_and_an_end() {
        assert!(valid_subject("alice") && valid_subject("Zoë 17850"));
        for bad in ["", "a\0b", "a\nb", "\u{7f}", &"é".repeat(128)] {
            assert!(!valid_subject(bad), "{bad:?}");
        }
    }
}
