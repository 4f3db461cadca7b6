//! The use cases, one per file. Each owns its transaction, except the application of orders'
//! events, which runs in the consumer's.

mod apply_orders;
mod browse;
mod error;
mod import_products;
mod quote;

pub use apply_orders::{Applied, Incoming, Placed, apply_orders};
pub use browse::{Page, PageRequest, get_product, list_products};
pub use error::Error;
pub use import_products::{Imported, import_products};
pub use quote::{MAX_QUOTE, Quote, quote};
