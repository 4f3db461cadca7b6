//! Who is calling: JSON Web Tokens (RFC 7519) and the development issuer that signs them.
//!
//! - [`Verifier`] accepts a token only if its header names a known key by `kid`, its algorithm is
//!   the one of that key and on the fixed list (`EdDSA`, `RS256`), and `iss`, `aud`, `exp` and `nbf`
//!   hold with at most [`LEEWAY`] of clock difference. Keys come from a document given at start or
//!   from the URL of an identity provider ([`RemoteKeys`]), fetched by one caller at a time.
//! - [`Issuer`] signs tokens with the first of its Ed25519 keys ([`KeyRing`]), which may change while
//!   it runs.
//! - [`Users`] checks passwords against argon2id hashes, off the async threads and in the same time
//!   whether or not the user exists. Who is a user ([`Directory`]) may change, too.
//! - [`Identity`] is what the gateway tells the services of a verified token.
//!
//! The crate decides who the caller is, never what they may do.

mod bearer;
mod claims;
mod directory;
mod error;
mod identity;
mod issuer;
mod jwk;
mod key_file;
mod key_ring;
mod password;
mod remote;
mod verifier;

pub use bearer::{MAX_TOKEN_BYTES, bearer_token};
pub use claims::{Claims, Role, UnknownRole, valid_subject};
pub use directory::{Directory, DirectoryError, UserFault, UserRecord};
pub use error::{AuthError, InvalidToken};
pub use identity::Identity;
pub use issuer::{Issuer, IssuerError};
pub use jwk::{Jwk, Jwks};
pub use key_file::{KeyFileError, create_key_file, warn_if_readable_by_others};
pub use key_ring::{KeyRing, KeyRingError};
pub use password::{PasswordError, Users, hash_password, verify_password};
pub use remote::{CachePolicy, RemoteKeys};
pub use verifier::{LEEWAY, Verifier};
