//! The only SQL of the service. Stock rows are always locked in the byte order of their SKUs, and
//! reservations before stock: so no two writers can wait for each other.

mod products;
mod reservations;
mod stock;

pub(crate) use products::{find, insert_stock, list, quote, upsert};
pub(crate) use reservations::{lock_reservations, save_reservations};
pub(crate) use stock::{insert_entries, lock_levels, save_levels};
