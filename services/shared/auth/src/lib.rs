//! Who is calling: JSON Web Tokens (RFC 7519) and the development issuer that signs them.
//!
//! - [`Verifier`] accepts a token only if its header names a known key by `kid`, its algorithm is
//!   the one of that key and on the fixed list (`EdDSA`, `RS256`), and `iss`, `aud`, `exp` and `nbf`
//!   hold with at most [`LEEWAY`] of clock difference. Keys come from a document given at start or
//!   from the URL of an identity provider ([`RemoteKeys`]), fetched by one caller at a time.
//! - [`Issuer`] signs tokens with an Ed25519 key kept in a file that it creates on first start.
//! - [`Users`] checks passwords against argon2id hashes, off the async threads and in the same time
//!   whether or not the user exists.
//!
//! The crate decides who the caller is, never what they may do.

mod bearer;
mod claims;
mod error;
mod issuer;
mod jwk;
mod key_file;
mod password;
mod remote;
mod verifier;

pub use bearer::{MAX_TOKEN_BYTES, bearer_token};
pub use claims::{Claims, Role, UnknownRole, valid_subject};
pub use error::{AuthError, InvalidToken};
pub use issuer::{Issuer, IssuerError};
pub use jwk::{Jwk, Jwks};
pub use key_file::KeyFileError;
pub use password::{PasswordError, UserRecord, Users, hash_password, verify_password};
pub use remote::{CachePolicy, RemoteKeys};
pub use verifier::{LEEWAY, Verifier};
