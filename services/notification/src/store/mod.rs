//! The only SQL of the service. The database's clock decides when an attempt is due and when a
//! lease ends, so replicas need not agree on the time.

mod delivery;
mod notifications;

pub(crate) use delivery::{Claimed, Finished, claim, finish, record_acceptances};
pub(crate) use notifications::{New, Stored, existing_kinds, insert, of_order};
