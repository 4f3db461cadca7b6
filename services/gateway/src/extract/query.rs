use std::borrow::Cow;

use http::Uri;
use percent_encoding::percent_decode_str;

use crate::problem::Problem;

const DEFAULT_LIMIT: u32 = 20;
const MAX_LIMIT: u32 = 100;
const MAX_CURSOR_BYTES: usize = 512;
const MAX_SEARCH_CHARS: usize = 100;

/// The parameters of a list's address, every one known and there at most once.
#[derive(Clone, Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads the address; `known` are the parameters that it may have.
    pub(crate) fn of(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let parts = uri.query().unwrap_or_default().split('&').filter(|part| !part.is_empty());
        let pairs = parts.map(pair).collect::<Result<Vec<_>, _>>()?;
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(Problem::field(shown(name), "is not a known query parameter"));
            }
            if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::field(name, "must be there once"));
            }
        }
        Ok(Self(pairs))
    }

    /// The parameter's text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// How many entries a page has at most.
    pub(crate) fn limit(&self) -> Result<u32, Problem> {
        let Some(text) = self.get("limit") else { return Ok(DEFAULT_LIMIT) };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(limit) if digits && (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
            _ => Err(Problem::field("limit", "must be a whole number from 1 to 100")),
        }
    }

    /// Where the previous page ended. Opaque here; its service checks it.
    pub(crate) fn cursor(&self) -> Result<String, Problem> {
        let text = self.get("cursor").unwrap_or_default();
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.len() <= MAX_CURSOR_BYTES && visible {
            Ok(text.to_owned())
        } else {
            Err(Problem::field("cursor", "must be the next_cursor of a previous page"))
        }
    }

    /// What to look for.
    pub(crate) fn search(&self) -> Result<String, Problem> {
        let text = self.get("q").unwrap_or_default();
        if text.chars().count() <= MAX_SEARCH_CHARS && !text.chars().any(char::is_control) {
            Ok(text.to_owned())
        } else {
            Err(Problem::field("q", "must be at most 100 characters without control characters"))
        }
    }
}

/// One `name=value`, with the form encoding undone. The libraries for that replace what is not
/// UTF-8, which would look for something else than was asked for.
fn pair(part: &str) -> Result<(String, String), Problem> {
    let (name, value) = part.split_once('=').unwrap_or((part, ""));
    let name = decoded(name)
        .ok_or_else(|| Problem::field("query", "has a name that is not valid UTF-8"))?;
    match decoded(value) {
        Some(value) => Ok((name, value)),
        None => Err(Problem::field(shown(&name), "is not valid UTF-8")),
    }
}

fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(Cow::into_owned)
}

/// As much of a name that the client chose as an answer repeats.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(query: &str) -> Result<Params, Problem> {
        let uri = format!("/v1/products?{query}").parse().unwrap();
        Params::of(&uri, &["cursor", "limit", "q"])
    }

    fn field(result: Result<impl std::fmt::Debug, Problem>) -> String {
        let problem = result.unwrap_err();
        assert_eq!(problem.status.as_u16(), 422);
        problem.errors[0].field.clone()
    }

    proptest! {
        #[test]
        fn no_query_makes_the_reader_panic(
            query in prop_oneof!["[a-z=&%+0-9A-F]{0,60}", "(q|limit|cursor|status)=[!-~]{0,40}"],
        ) {
            // What an address cannot hold does not come here.
            if format!("/v1/products?{query}").parse::<Uri>().is_err() {
                return Ok(());
            }
            if let Ok(params) = of(&query) {
                prop_assert!(params.limit().is_err() || (1..=MAX_LIMIT).contains(&params.limit().unwrap()));
                let _ = (params.cursor(), params.search());
            }
        }

        #[test]
        fn a_search_is_read_as_it_was_written(text in "[^\\p{Cc}]{0,100}") {
            let encoded: Vec<String> = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(of(&format!("q={}", encoded.concat())).unwrap().search().unwrap(), text);
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let params = of("q=red+mug%21&limit=7&cursor=abc_-").unwrap();
        assert_eq!(params.search().unwrap(), "red mug!");
        assert_eq!((params.limit().unwrap(), params.cursor().unwrap()), (7, "abc_-".to_owned()));
        assert_eq!(of("").unwrap().limit().unwrap(), DEFAULT_LIMIT);
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused_by_name() {
        assert_eq!(field(of("page=2")), "page");
        assert_eq!(field(of("limit=1&limit=2")), "limit");
    }

    #[test]
    fn what_is_not_utf_8_is_refused_by_name_and_not_replaced() {
        for bad in ["q=%FF", "limit=7&q=mug%C3", "cursor=%ED%A0%80"] {
            let problem = of(bad).unwrap_err();
            assert_eq!(problem.errors[0].message, "is not valid UTF-8", "{bad}");
            assert!(["q", "cursor"].contains(&field(of(bad)).as_str()), "{bad}");
        }
        assert_eq!(field(of("%FF=1")), "query");
        assert_eq!(of("q=%EF%BF%BD%C3%BC").unwrap().search().unwrap(), "\u{fffd}ü");
    }

    #[test]
    fn the_form_encoding_is_undone_once_and_gaps_are_nothing() {
        let params = of("&q=a%2Bb=%2525%zz&&cursor").unwrap();
        assert_eq!(params.search().unwrap(), "a+b=%25%zz");
        assert_eq!(params.cursor().unwrap(), "");
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for bad in ["", "0", "101", "-1", "+5", "1.5", "ten", "99999999999999999999"] {
            assert_eq!(field(of(&format!("limit={bad}")).unwrap().limit()), "limit", "{bad}");
        }
        assert_eq!(field(of("cursor=a%00b").unwrap().cursor()), "cursor");
        assert_eq!(field(of("q=a%00b").unwrap().search()), "q");
        assert_eq!(field(of(&format!("q={}", "x".repeat(101))).unwrap().search()), "q");
    }
}
