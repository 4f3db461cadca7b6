use axum::extract::State;
use portolan_auth::PasswordError;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    app::App,
    extract::{Json, LogIn},
    openapi::{BodyProblems, LoginProblem, NotFoundProblem},
    problem::{Problem, kind},
};

/// A user name and its password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    /// The user's name.
    #[schema(example = "alice")]
    username: String,
    /// The user's password.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// A token for the `Authorization` header (RFC 6749 section 5.1).
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names are those of the RFC")]
pub(crate) struct Token {
    /// The JSON Web Token.
    access_token: String,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// How long it is valid, in seconds.
    #[schema(example = 3600)]
    expires_in: u64,
}

/// Log in
///
/// Exists only while the built-in development issuer is enabled.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", operation_id = "createToken",
    request_body = Credentials,
    responses((status = 200, description = "A token", body = Token), BodyProblems, LoginProblem,
        NotFoundProblem),
    security(()),
)]
pub(crate) async fn create_token(
    State(app): State<App>,
    _attempt: LogIn,
    Json(credentials): Json<Credentials>,
) -> Result<axum::Json<Token>, Problem> {
    let login = app.login.as_ref().ok_or_else(Problem::not_found)?;
    let Credentials { username, password } = credentials;
    let user = login.users.authenticate(&username, password).await;
    let Some(user) = user.map_err(|error| not_checked(&error))? else {
        return Err(Problem::new(kind::INVALID_CREDENTIALS, "User name or password is wrong."));
    };
    let (now, jti) = (app.clock.now(), app.ids.next());
    let token = login.issuer.issue(&user.username, &user.roles, now, login.ttl, jti);
    let token = token.map_err(|error| failed(&error))?;
    Ok(axum::Json(Token {
        access_token: token.expose_secret().to_owned(),
        token_type: "Bearer",
        expires_in: login.ttl.as_secs(),
    }))
}

fn not_checked(error: &PasswordError) -> Problem {
    match error {
        PasswordError::Busy => {
            Problem::new(kind::OVERLOADED, "Too many log-ins at once: come back in a moment.")
        }
        PasswordError::Hash | PasswordError::Interrupted => failed(error),
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error = portolan_runtime::one_line(error), "no token could be made");
    Problem::internal()
}
