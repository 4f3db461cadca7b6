//! The resources. Each module holds the handlers of one and what they read and write.

pub(crate) mod dead_letters;
pub(crate) mod events;
pub(crate) mod meta;
pub(crate) mod money;
pub(crate) mod order;
pub(crate) mod orders;
pub(crate) mod place;
pub(crate) mod products;
pub(crate) mod stats;
pub(crate) mod timeline;
pub(crate) mod tokens;
