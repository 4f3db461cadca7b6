use axum::extract::Query;
use http::Uri;

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
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let Query(pairs) =
            pairs.map_err(|_| Problem::field("query", "cannot be read as name=value pairs"))?;
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let name: String = name.chars().take(64).collect();
                return Err(Problem::field(name, "is not a known query parameter"));
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

#[cfg(test)]
mod tests {
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
    fn values_out_of_range_are_refused_by_name() {
        for bad in ["", "0", "101", "-1", "+5", "1.5", "ten", "99999999999999999999"] {
            assert_eq!(field(of(&format!("limit={bad}")).unwrap().limit()), "limit", "{bad}");
        }
        assert_eq!(field(of("cursor=a%00b").unwrap().cursor()), "cursor");
        assert_eq!(field(of("q=a%00b").unwrap().search()), "q");
        assert_eq!(field(of(&format!("q={}", "x".repeat(101))).unwrap().search()), "q");
    }
}
