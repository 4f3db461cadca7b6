use std::borrow::Cow;

use portolan_kernel::{Coded, ErrorCode};

/// Why a caller is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No credentials were given.
    #[error("no bearer token")]
    Missing,
    /// Credentials were given and are not accepted.
    #[error("token refused")]
    Invalid(#[source] InvalidToken),
    /// The identity provider's keys cannot be had, so nothing can be said about the token.
    #[error("the signing keys are not available")]
    KeysUnavailable {
        /// When the keys are asked for again, in seconds.
        retry_after_secs: u32,
    },
}

/// What is wrong with a token. Safe to tell the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    #[error("the Authorization header is not `Bearer <token>`")]
    Scheme,
    #[error("the token is too large")]
    TooLarge,
    #[error("the token is not a signed JSON Web Token")]
    Malformed,
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    #[error("the token names no key (kid)")]
    MissingKeyId,
    #[error("the token's key (kid) is not known")]
    UnknownKey,
    #[error("the token's signature does not match")]
    Signature,
    #[error("the token is from another issuer (iss)")]
    Issuer,
    #[error("the token is for another audience (aud)")]
    Audience,
    #[error("the token has expired (exp)")]
    Expired,
    #[error("the token is not valid yet (nbf)")]
    NotYetValid,
    #[error("a claim is missing or has the wrong form")]
    Claims,
    #[error("the token's subject (sub) cannot be a user id")]
    Subject,
}

impl Coded for AuthError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Missing | Self::Invalid(_) => ErrorCode::Unauthenticated,
            Self::KeysUnavailable { .. } => ErrorCode::Unavailable,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "unauthenticated",
            Self::Invalid(_) => "invalid_token",
            Self::KeysUnavailable { .. } => "keys_unavailable",
        }
    }

    fn public_message(&self) -> Cow<'static, str> {
        match self {
            Self::Missing => "Send a token: `Authorization: Bearer <token>`.".into(),
            Self::Invalid(why) => sentence(&why.to_string()).into(),
            Self::KeysUnavailable { .. } => {
                "The identity provider's keys cannot be fetched at the moment.".into()
            }
        }
    }

    fn retry_after_secs(&self) -> Option<u32> {
        match self {
            Self::KeysUnavailable { retry_after_secs } => Some(*retry_after_secs),
            Self::Missing | Self::Invalid(_) => None,
        }
    }
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(characters).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_reads_a_sentence() {
        let error = AuthError::Invalid(InvalidToken::Expired);
        assert_eq!(error.public_message(), "The token has expired (exp).");
    }
}
