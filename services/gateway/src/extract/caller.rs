use axum::extract::FromRequestParts;
use http::request::Parts;
use portolan_auth::{Claims, Identity, Role, bearer_token};

use crate::{
    app::App,
    problem::{Problem, kind},
    rate::Account,
};

/// Anybody, who needs no token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor;

/// Anybody who tries to log in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogIn;

/// Whoever holds the verified token, with at least one role.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Claims);

/// A caller who may place orders.
#[derive(Clone, Debug)]
pub(crate) struct Customer(Identity);

/// A caller who may look after the shop.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    /// The token's subject.
    pub(crate) name: String,
}

impl Caller {
    /// Who it is, for the services.
    pub(crate) fn identity(&self) -> Identity {
        Identity::from(&self.0)
    }

    /// Whose orders the caller may read, in the words of the order service: empty for anybody's.
    pub(crate) fn reads_as(&self) -> String {
        if self.0.has(Role::Operator) { String::new() } else { self.0.sub.clone() }
    }

    /// When the token ends, in seconds since 1970.
    pub(crate) const fn expires_at(&self) -> i64 {
        self.0.exp
    }
}

impl Customer {
    /// Who it is, for the services.
    pub(crate) const fn identity(&self) -> &Identity {
        &self.0
    }

    pub(crate) fn user_id(&self) -> String {
        self.0.subject().to_owned()
    }
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        app.rates.visitor(Account::of(parts)?).map(|()| Self)
    }
}

impl FromRequestParts<App> for LogIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        app.rates.log_in(Account::of(parts)?).map(|()| Self)
    }
}

/// What the request's token says. Whoever has no good one is a stranger, and counted as one.
async fn verified(parts: &Parts, app: &App) -> Result<Claims, Problem> {
    let verified = match bearer_token(&parts.headers) {
        Ok(token) => app.verifier.verify(token).await,
        Err(error) => Err(error),
    };
    if verified.is_err() {
        app.rates.visitor(Account::of(parts)?)?;
    }
    Ok(verified?)
}

/// What the token of a subject says who has one of these roles. Whoever it names has asked, whatever
/// the answer is.
async fn allowed(
    parts: &Parts,
    app: &App,
    roles: &[Role],
    otherwise: &'static str,
) -> Result<Claims, Problem> {
    let claims = verified(parts, app).await?;
    app.rates.subject(Account::of(parts)?, &claims.sub).await?;
    if !roles.iter().any(|role| claims.has(*role)) {
        return Err(Problem::new(kind::FORBIDDEN, otherwise));
    }
    Ok(claims)
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let roles = [Role::Customer, Role::Operator];
        let otherwise = "The token has none of the roles that exist here.";
        allowed(parts, app, &roles, otherwise).await.map(Self)
    }
}

impl FromRequestParts<App> for Customer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let otherwise = "Only a customer can do this.";
        let claims = allowed(parts, app, &[Role::Customer], otherwise).await?;
        Ok(Self(Identity::from(&claims)))
    }
}

impl FromRequestParts<App> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let otherwise = "Only an operator can do this.";
        let claims = allowed(parts, app, &[Role::Operator], otherwise).await?;
        Ok(Self { name: claims.sub })
    }
}
