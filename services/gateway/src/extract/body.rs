use axum::body::{Body, Bytes};
use http::{
    HeaderMap,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body_util::BodyExt as _;

use crate::problem::{Problem, kind};

/// How much of a body that is too large is read and thrown away: a client that is still sending
/// when the connection closes under it may never see our answer.
const DISCARDED: usize = 1_048_576;

/// The whole body if it is JSON by its media type and not larger than `limit` bytes.
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
) -> Result<Bytes, Problem> {
    if !is_json(headers) {
        let detail = "Send the body as `Content-Type: application/json`.";
        return Err(Problem::new(kind::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let patience = limit.max(DISCARDED);
    // Refuse at once what announces to be enormous; the announcement may also be missing or wrong.
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let announced: usize = announced.unwrap_or(0);
    if announced > patience {
        return Err(too_large(limit));
    }
    let (mut read, mut total) = (Vec::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let incomplete = "The body ended before it was complete.";
        let frame = frame.map_err(|_| Problem::new(kind::BAD_REQUEST, incomplete))?;
        let Some(data) = frame.data_ref() else { continue };
        total += data.len();
        if total <= limit {
            read.extend_from_slice(data);
        } else if total > patience {
            break;
        }
    }
    if total.max(announced) > limit { Err(too_large(limit)) } else { Ok(Bytes::from(read)) }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(kind::PAYLOAD_TOO_LARGE, format!("The body has more than {limit} bytes."))
}

/// `application/json`, at most with the parameter `charset=utf-8` (RFC 8259 knows no other).
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(text) = value.to_str() else { return false };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case("application/json") && parts.all(is_utf8_parameter)
}

fn is_utf8_parameter(parameter: &str) -> bool {
    match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        Some(_) => true,
        None => parameter.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_json_in_utf_8_is_json() {
        let check = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(text));
            is_json(&headers)
        };
        for good in ["application/json", "Application/JSON; charset=\"UTF-8\"", "application/json;"]
        {
            assert!(check(good), "{good}");
        }
        for bad in
            ["text/json", "application/jsonx", "application/json; charset=latin1", "a/b; json"]
        {
            assert!(!check(bad), "{bad}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
