//! Reading and checking requests. Each extractor answers with the problem that names what is wrong.

mod body;
mod caller;
mod idempotency;
mod json;
mod json_error;
mod path;
mod query;

pub(crate) use caller::{Caller, Customer, LogIn, Operator, Visitor};
pub(crate) use idempotency::IdempotencyKey;
pub(crate) use json::{Json, Object};
pub(crate) use path::{OrderPath, Places, SkuPath, valid_sku};
pub(crate) use query::Params;
