//! The rules of stock, without I/O: which SKUs there can be, how a reservation moves, and what a
//! batch of orders' events does to the shelves.

mod books;
mod product;
mod reservation;
mod sku;
mod stock;

pub use books::{Books, Effect, Impossible, Order, OrderEvent, Outcome, Reservation};
pub use product::{ImportedProduct, MAX_IMPORT, Product, parse_import};
pub use reservation::{Decision, Event, Ignored, State, UnknownState, decide};
pub use sku::{InvalidSku, Sku};
pub use stock::{Entry, Kind, Level, Levels, Line};
