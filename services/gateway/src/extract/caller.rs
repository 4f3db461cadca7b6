use axum::extract::FromRequestParts;
use http::request::Parts;
use portolan_auth::{Claims, Role, bearer_token};

use crate::{
    app::App,
    problem::{Problem, kind},
};

/// Whoever holds the verified token, with at least one role.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Claims);

/// A caller who may place orders.
#[derive(Clone, Debug)]
pub(crate) struct Customer {
    pub(crate) user_id: String,
}

/// A caller who may look after the shop.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    /// The token's subject.
    pub(crate) name: String,
}

impl Caller {
    /// Whose orders the caller may read, in the words of the order service: empty for anybody's.
    pub(crate) fn reads_as(&self) -> String {
        if self.0.has(Role::Operator) { String::new() } else { self.0.sub.clone() }
    }

    /// When the token ends, in seconds since 1970.
    pub(crate) const fn expires_at(&self) -> i64 {
        self.0.exp
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let claims = app.verifier.verify(bearer_token(&parts.headers)?).await?;
        if claims.has(Role::Customer) || claims.has(Role::Operator) {
            Ok(Self(claims))
        } else {
            Err(Problem::new(kind::FORBIDDEN, "The token has none of the roles that exist here."))
        }
    }
}

impl FromRequestParts<App> for Customer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Caller(claims) = Caller::from_request_parts(parts, app).await?;
        if claims.has(Role::Customer) {
            Ok(Self { user_id: claims.sub })
        } else {
            Err(Problem::new(kind::FORBIDDEN, "Only a customer can do this."))
        }
    }
}

impl FromRequestParts<App> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Caller(claims) = Caller::from_request_parts(parts, app).await?;
        if claims.has(Role::Operator) {
            Ok(Self { name: claims.sub })
        } else {
            Err(Problem::new(kind::FORBIDDEN, "Only an operator can do this."))
        }
    }
}
