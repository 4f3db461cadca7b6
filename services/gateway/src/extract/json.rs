use std::{fmt, marker::PhantomData};

use axum::extract::{FromRequest, Request};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{body, json_error};
use crate::{app::App, problem::Problem};

/// A request body: JSON of the form of `T`, which is an object.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = body::read(&parts.headers, body, app.limits.body_bytes).await?;
        parse(&bytes).map(Self)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|error| json_error::not_utf8(&error))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value: Object<T> = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| json_error::problem(error.path(), error.inner()))?;
    deserializer.end().map_err(|error| json_error::malformed(&error))?;
    Ok(value.0)
}

/// A JSON object of the form of `T`. Without it serde also takes an array of the fields' values in
/// the order of their declaration, which is nobody's contract.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::FieldError;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "lines")]
        _lines: Vec<Object<Inner>>,
        #[serde(rename = "token")]
        _token: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "count")]
        _count: u32,
    }

    fn fault(body: &str) -> (u16, Vec<FieldError>) {
        let problem = parse::<Outer>(body.as_bytes()).unwrap_err();
        (problem.status.as_u16(), problem.errors.clone())
    }

    fn field(name: &str, message: &str) -> (u16, Vec<FieldError>) {
        (422, vec![FieldError { field: name.to_owned(), message: message.to_owned() }])
    }

    #[test]
    fn the_field_at_fault_is_named() {
        assert!(parse::<Outer>(br#" {"lines":[{"count":1}]} "#).is_ok());
        assert_eq!(fault(r#"{"lines":[{"count":1},{"count":-1}]}"#).1[0].field, "lines[1].count");
        assert_eq!(fault(r#"{"lines":[{"count":1.5}]}"#).1[0].field, "lines[0].count");
        assert_eq!(fault(r#"{"lines":[{}]}"#), field("lines[0].count", "is required"));
        assert_eq!(fault("{}"), field("lines", "is required"));
        assert_eq!(fault(r#"{"lines":[],"x":1}"#), field("x", "is not a known field"));
        let nested = fault(r#"{"lines":[{"count":1,"price":0}]}"#);
        assert_eq!(nested, field("lines[0].price", "is not a known field"));
        let twice = fault(r#"{"lines":[{"count":1,"count":2}]}"#);
        assert_eq!(twice, field("lines[0].count", "is there twice"));
    }

    #[test]
    fn arrays_are_not_objects() {
        assert_eq!(fault(r#"[[],"t"]"#), field("body", "must be an object"));
        assert_eq!(fault(r#"{"lines":[[1]]}"#), field("lines[0]", "must be an object"));
    }

    #[test]
    fn what_is_not_json_is_said_with_its_place() {
        let problem = parse::<Outer>(b"{\n  \"lines\": [1,,]}").unwrap_err();
        assert_eq!(problem.status.as_u16(), 422, "the first fault is the number");
        for (body, place) in [
            (&b"{\n \"lines\": [,]}"[..], "line 2 column 12"),
            (b"", "line 1 column 0"),
            (b"{\"lines\":[]} x", "line 1 column 14"),
            (b"{\"lines\":[],\"token\":\"a\xff\"}", "byte 23"),
        ] {
            let problem = parse::<Outer>(body).unwrap_err();
            assert_eq!(problem.status.as_u16(), 400);
            assert_eq!(problem.code, "malformed_json");
            assert!(problem.detail.contains(place), "{}", problem.detail);
        }
        let deep = "[".repeat(100_000);
        assert_eq!(parse::<Outer>(deep.as_bytes()).unwrap_err().status.as_u16(), 422);
        let deep = format!("{{\"token\":{deep}");
        assert!(parse::<Outer>(deep.as_bytes()).unwrap_err().status.is_client_error());
    }

    #[test]
    fn values_are_never_repeated() {
        for body in [
            r#"{"lines":"tok_secret"}"#,
            r#"{"lines":[{"count":"tok_secret, expected tok_secret"}]}"#,
            r#"{"lines":[],"tok_secret":1}"#,
            r#"{"lines":[],"token":{"tok_secret":"tok_secret"}}"#,
        ] {
            let problem = parse::<Outer>(body.as_bytes()).unwrap_err();
            assert!(!format!("{problem:?}").contains("tok_secret"), "{problem:?}");
        }
    }
}
