use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use portolan_kernel::OrderId;
use serde::de::DeserializeOwned;

use crate::{app::App, problem::Problem};

const MAX_SKU_BYTES: usize = 64;
/// The hyphenated form; a UUID also has others, but an address has only one.
const UUID_CHARS: usize = 36;

/// What the address has in its places. Text that is not UTF-8 names nothing.
#[derive(Clone, Debug)]
pub(crate) struct Places<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Places<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, app).await;
        path.map(|Path(places)| Self(places)).map_err(|_| Problem::not_found())
    }
}

/// The order of the address. What is no UUID names no order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderPath(pub(crate) OrderId);

impl FromRequestParts<App> for OrderPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Places(text) = Places::<String>::from_request_parts(parts, app).await?;
        let id = if text.len() == UUID_CHARS { text.parse().ok() } else { None };
        id.map(Self).ok_or_else(Problem::not_found)
    }
}

/// The product of the address. What cannot be a SKU names no product.
#[derive(Clone, Debug)]
pub(crate) struct SkuPath(pub(crate) String);

impl FromRequestParts<App> for SkuPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Places(text) = Places::<String>::from_request_parts(parts, app).await?;
        if valid_sku(&text) { Ok(Self(text)) } else { Err(Problem::not_found()) }
    }
}

/// Whether the text can be a SKU: 1 to 64 visible ASCII characters.
pub(crate) fn valid_sku(text: &str) -> bool {
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    !text.is_empty() && text.len() <= MAX_SKU_BYTES && visible
}
