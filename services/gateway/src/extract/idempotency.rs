use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderName, request::Parts};

use crate::{
    app::App,
    problem::{FieldError, Kind, Problem, kind},
};

const NAME: &str = "Idempotency-Key";
const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_BYTES: usize = 255;

/// The client's name for one attempt (draft-ietf-httpapi-idempotency-key-header): the quoted form
/// of the draft and the bare one that most clients send mean the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdempotencyKey(pub(crate) String);

impl FromRequestParts<App> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        from_headers(&parts.headers)
    }
}

fn from_headers(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let missing = || refuse(kind::IDEMPOTENCY_KEY_REQUIRED, "is required");
    let value = values.next().ok_or_else(missing)?;
    if values.next().is_some() {
        return Err(refuse(kind::IDEMPOTENCY_KEY_INVALID, "must be there once"));
    }
    let wrong =
        || refuse(kind::IDEMPOTENCY_KEY_INVALID, "must be 1 to 255 visible ASCII characters");
    let key = value.to_str().ok().and_then(unquote).ok_or_else(wrong)?;
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    if key.is_empty() || key.len() > MAX_BYTES || !visible {
        return Err(wrong());
    }
    Ok(IdempotencyKey(key))
}

fn refuse(kind: &Kind, message: &str) -> Problem {
    let error = FieldError { field: NAME.to_owned(), message: message.to_owned() };
    Problem::new(kind, format!("The header {NAME} {message}.")).with_errors(vec![error])
}

/// The contents of a structured-field string (RFC 9651 section 4.2.5), or the bare text. `None` if
/// quotes do not close or something else than a quote or backslash is escaped.
fn unquote(text: &str) -> Option<String> {
    let Some(rest) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let mut key = String::with_capacity(rest.len());
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(key),
            '\\' => key.push(characters.next().filter(|c| matches!(c, '"' | '\\'))?),
            other => key.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// What the description says that a key looks like.
    fn described() -> String {
        let description: Value = serde_json::from_str(&crate::openapi::json().unwrap()).unwrap();
        let parameter = &description["paths"]["/v1/orders"]["post"]["parameters"][0];
        assert_eq!(parameter["name"], NAME);
        let pattern = parameter["schema"]["pattern"].as_str().unwrap();
        // Whole keys: the generator knows no anchors.
        pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$')).unwrap().to_owned()
    }

    #[test]
    fn every_key_that_fits_the_description_is_accepted() {
        let keys = proptest::string::string_regex(&described()).unwrap();
        let run = proptest::test_runner::TestRunner::default().run(&keys, |key| {
            prop_assert!(of(&[&key]).is_ok());
            Ok(())
        });
        run.unwrap();
    }

    proptest! {
        #[test]
        fn a_key_is_the_same_with_and_without_quotes(key in "[!#-~][!-~]{0,254}") {
            let quoted = key.replace('\\', r"\\").replace('"', r#"\""#);
            prop_assert_eq!(of(&[&format!("\"{quoted}\"")]), Ok(key.clone()));
            prop_assert_eq!(of(&[&key]), Ok(key));
        }

        #[test]
        fn whatever_the_header_is_the_key_is_visible_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let headers = HeaderMap::from_iter([(HEADER, value)]);
            if let Ok(IdempotencyKey(key)) = from_headers(&headers) {
                prop_assert!((1..=MAX_BYTES).contains(&key.len()));
                prop_assert!(key.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }

    fn of(values: &[&str]) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        from_headers(&headers).map(|key| key.0).map_err(|problem| {
            assert_eq!(problem.status.as_u16(), 400);
            assert_eq!(problem.errors[0].field, NAME);
            problem.code.to_string()
        })
    }

    #[test]
    fn the_quoted_and_the_bare_form_are_the_same_key() {
        assert_eq!(of(&["8e03978e-40d5"]).unwrap(), "8e03978e-40d5");
        assert_eq!(of(&[r#""8e03978e-40d5""#]).unwrap(), "8e03978e-40d5");
        assert_eq!(of(&[r#""a\"b\\c""#]).unwrap(), r#"a"b\c"#);
        assert_eq!(of(&[&"k".repeat(255)]).unwrap().len(), 255);
    }

    #[test]
    fn a_key_must_be_there_once_and_be_visible() {
        assert_eq!(of(&[]), Err("idempotency_key_required".to_owned()));
        let long = "k".repeat(256);
        for bad in [&["a", "b"][..], &[""], &["\"\""], &["a b"], &["\"a"], &["\"a\"b"], &[&long]] {
            assert_eq!(of(bad), Err("idempotency_key_invalid".to_owned()), "{bad:?}");
        }
        assert!(of(&["kéy"]).is_err() && of(&["\"a\\nb\""]).is_err());
    }
}
