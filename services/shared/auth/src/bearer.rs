use http::{HeaderMap, header::AUTHORIZATION};

use crate::error::{AuthError, InvalidToken};

/// The largest token that is looked at, in bytes. Ours have about 400; those of identity providers
/// with many claims stay below 4 000.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The token of the one `Authorization: Bearer` header (RFC 6750 section 2.1; the scheme's case
/// does not matter).
///
/// # Errors
/// There is none, several, another scheme, or one beyond [`MAX_TOKEN_BYTES`].
pub fn bearer_token(headers: &HeaderMap) -> Result<&str, AuthError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthError::Missing)?;
    let scheme = || AuthError::Invalid(InvalidToken::Scheme);
    if values.next().is_some() {
        return Err(scheme());
    }
    if value.len() > MAX_TOKEN_BYTES {
        return Err(AuthError::Invalid(InvalidToken::TooLarge));
    }
    let (name, token) = value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or_else(scheme)?;
    let token = token.trim_start_matches(' ');
    if name.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ') {
        Ok(token)
    } else {
        Err(scheme())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_the_header_is_a_token_is_one_word_or_refused(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..100),
                "(?i)bearer[ -~]{0,60}".prop_map(String::into_bytes),
            ],
        ) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            if let Ok(token) = bearer_token(&headers) {
                prop_assert!(!token.is_empty() && !token.contains(' '));
            }
        }
    }

    fn of(values: &[&str]) -> Result<String, AuthError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        bearer_token(&headers).map(str::to_owned)
    }

    #[test]
    fn the_token_follows_the_scheme() {
        assert_eq!(of(&["Bearer abc.def.ghi"]).unwrap(), "abc.def.ghi");
        assert_eq!(of(&["bearer  abc"]).unwrap(), "abc");
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(of(&[]), Err(AuthError::Missing));
        for bad in ["Bearer", "Bearer ", "Basic YTpi", "abc.def.ghi", "Bearer a b", "Bearer\tabc"] {
            assert_eq!(of(&[bad]), Err(AuthError::Invalid(InvalidToken::Scheme)), "{bad}");
        }
        let twice = of(&["Bearer a", "Bearer b"]);
        assert_eq!(twice, Err(AuthError::Invalid(InvalidToken::Scheme)));
        let long = format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES));
        assert_eq!(of(&[&long]), Err(AuthError::Invalid(InvalidToken::TooLarge)));
    }
}
