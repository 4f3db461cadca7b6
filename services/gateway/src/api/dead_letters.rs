//! Dead letters, for operators. Each group's are with the service that consumes; this is their
//! common front.

mod shapes;

use axum::extract::State;
use http::Uri;
use portolan_proto::ops::v1::{
    self as proto, dead_letter_service_client::DeadLetterServiceClient, selection::Target,
};
use portolan_runtime::grpc;
use serde::Deserialize;
use utoipa::ToSchema;

use shapes::{DeadLetter, joined, split};
pub(crate) use shapes::{DeadLetterDetails, DeadLetterPage, Handled};

use crate::{
    app::{App, Channel},
    extract::{Json, Operator, Params, Places},
    openapi::{BodyProblems, ConflictProblem, NotFoundProblem, QueryProblem, Secured},
    problem::Problem,
};

type Client = DeadLetterServiceClient<Channel>;

const MAX_REASON_CHARS: usize = 500;
const MAX_KEY_CHARS: usize = 256;

/// Which dead letters of a group are redriven, and why. Exactly one of `key`, `event_id` and `all`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Remedy {
    /// The dead letter of this key: an order id.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 256, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    key: Option<String>,
    /// This event, which must be a dead letter.
    #[serde(default)]
    #[schema(format = Uuid)]
    event_id: Option<String>,
    /// All of the group. One request takes some of them: repeat it with `cursor`.
    #[serde(default)]
    all: bool,
    /// With `all`: where the previous answer ended, its `next_cursor`.
    #[serde(default)]
    cursor: Option<String>,
    /// Why, for those who read the trail later: a line of 1 to 500 characters.
    #[schema(
        min_length = 1,
        max_length = 500,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*[^\\s\\x00-\\x1f\\x7f-\\x9f][^\\x00-\\x1f\\x7f-\\x9f]*$",
        example = "the constraint was wrong; fixed in 1.4.2"
    )]
    reason: String,
}

impl Remedy {
    fn checked(self, operator: Operator) -> Result<(proto::Selection, proto::Warrant), Problem> {
        let warrant = warrant(&self.reason, operator)?;
        if self.cursor.is_some() && !self.all {
            return Err(Problem::field("cursor", "is only for all"));
        }
        let target = match (self.key, self.event_id, self.all) {
            (Some(key), None, false) => Target::Key(checked_key(key)?),
            (None, Some(id), false) => Target::EventId(id),
            (None, None, true) => Target::AllFrom(self.cursor.unwrap_or_default()),
            _ => {
                let problem = "must be given, or event_id, or all, and only one of them";
                return Err(Problem::field("key", problem));
            }
        };
        Ok((proto::Selection { target: Some(target) }, warrant))
    }
}

/// Which dead letter of a group is given up, and why. An event, not a key: another event may have
/// become the dead letter of the key meanwhile.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Surrender {
    /// This event, which must be a dead letter.
    #[schema(format = Uuid)]
    event_id: String,
    /// Why, for those who read the trail later: a line of 1 to 500 characters.
    #[schema(
        min_length = 1,
        max_length = 500,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*[^\\s\\x00-\\x1f\\x7f-\\x9f][^\\x00-\\x1f\\x7f-\\x9f]*$",
        example = "forged, see incident 12"
    )]
    reason: String,
}

fn warrant(reason: &str, operator: Operator) -> Result<proto::Warrant, Problem> {
    let line = !reason.trim().is_empty() && !reason.chars().any(char::is_control);
    if !line || reason.chars().count() > MAX_REASON_CHARS {
        return Err(Problem::field("reason", "must be a line of 1 to 500 characters"));
    }
    Ok(proto::Warrant { operator: operator.name, reason: reason.trim().to_owned() })
}

fn checked_key(key: String) -> Result<String, Problem> {
    let sound = !key.is_empty() && !key.chars().any(char::is_control);
    if sound && key.chars().count() <= MAX_KEY_CHARS {
        Ok(key)
    } else {
        Err(Problem::field("key", "must be 1 to 256 characters without control characters"))
    }
}

fn client(app: &App, group: &str) -> Result<(&'static str, Client), Problem> {
    let found = app.dead_letters.iter().find(|(name, _)| *name == group);
    found.cloned().ok_or_else(Problem::not_found)
}

/// List dead letters
///
/// Records that a consumer could not apply, the oldest first in each group. The later events of
/// their orders wait behind them.
#[utoipa::path(
    get, path = "/v1/admin/dlq", tag = "operations", operation_id = "listDeadLetters",
    params(
        ("group" = Option<String>, Query, description = "Only those of this consumer group: \
            order, inventory, payment, notification"),
        ("key" = Option<String>, Query, min_length = 1, max_length = 256,
            pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$",
            description = "Only those of this key: an order id"),
        ("cursor" = Option<String>, Query, max_length = 512, pattern = "^[!-~]*$",
            description = "Where the previous page ended: its `next_cursor`"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many at \
            most; 20 if not given"),
    ),
    responses((status = 200, description = "A page of dead letters", body = DeadLetterPage),
        QueryProblem, NotFoundProblem, Secured),
    security(("bearer" = [])),
)]
pub(crate) async fn list_dead_letters(
    State(app): State<App>,
    _operator: Operator,
    uri: Uri,
) -> Result<axum::Json<DeadLetterPage>, Problem> {
    let params = Params::of(&uri, &["group", "key", "cursor", "limit"])?;
    let key = params.get("key").map(|key| checked_key(key.to_owned())).transpose()?;
    let (key, cursor, limit) = (key.unwrap_or_default(), params.cursor()?, params.limit()?);
    let groups = match params.get("group") {
        Some(group) => vec![client(&app, group)?],
        None => app.dead_letters.to_vec(),
    };
    let (begin, mut cursor) = split(&cursor, &groups)?;
    let mut page = DeadLetterPage { dead_letters: Vec::new(), next_cursor: None };
    for (group, mut client) in groups.into_iter().skip(begin) {
        let left = limit - u32::try_from(page.dead_letters.len()).unwrap_or(limit);
        if left == 0 {
            page.next_cursor = Some(joined(group, ""));
            break;
        }
        let request = proto::ListRequest {
            key: key.clone(),
            limit: left,
            cursor: std::mem::take(&mut cursor),
        };
        let request = grpc::deadline(request, app.limits.call_timeout());
        let found = client.list(request).await?.into_inner();
        for letter in found.dead_letters {
            page.dead_letters.push(DeadLetter::new(group, letter)?);
        }
        if !found.next_cursor.is_empty() {
            page.next_cursor = Some(joined(group, &found.next_cursor));
            break;
        }
    }
    Ok(axum::Json(page))
}

/// Show a dead letter
///
/// With its message, what waits behind it, and what operators did about its order.
#[utoipa::path(
    get, path = "/v1/admin/dlq/{group}/{event_id}", tag = "operations",
    operation_id = "getDeadLetter",
    params(
        ("group" = String, Path, description = "The consumer group", example = "inventory"),
        ("event_id" = String, Path, format = Uuid, description = "The event"),
    ),
    responses((status = 200, description = "The dead letter", body = DeadLetterDetails),
        NotFoundProblem, Secured),
    security(("bearer" = [])),
)]
pub(crate) async fn get_dead_letter(
    State(app): State<App>,
    _operator: Operator,
    Places((group, event_id)): Places<(String, String)>,
) -> Result<axum::Json<DeadLetterDetails>, Problem> {
    let (group, mut client) = client(&app, &group)?;
    if event_id.parse::<portolan_kernel::OrderId>().is_err() {
        return Err(Problem::not_found());
    }
    let request = grpc::deadline(proto::ShowRequest { event_id }, app.limits.call_timeout());
    let found = client.show(request).await?.into_inner();
    DeadLetterDetails::new(group, found).map(axum::Json)
}

/// Redrive dead letters
///
/// Applies each and what waits behind it, in order, by the code that consumes. One that still
/// cannot be applied stays as it is, and the result says why. Repeating it is harmless.
#[utoipa::path(
    post, path = "/v1/admin/dlq/{group}/redrive", tag = "operations",
    operation_id = "redriveDeadLetters",
    params(("group" = String, Path, description = "The consumer group", example = "inventory")),
    request_body = Remedy,
    responses((status = 200, description = "What became of each", body = Handled), BodyProblems,
        ConflictProblem, NotFoundProblem, Secured),
    security(("bearer" = [])),
)]
pub(crate) async fn redrive_dead_letters(
    State(app): State<App>,
    operator: Operator,
    Places(group): Places<String>,
    Json(remedy): Json<Remedy>,
) -> Result<axum::Json<Handled>, Problem> {
    let (group, mut client) = client(&app, &group)?;
    let (selection, warrant) = remedy.checked(operator)?;
    let request = proto::RedriveRequest { selection: Some(selection), warrant: Some(warrant) };
    let request = grpc::deadline(request, app.limits.call_timeout());
    let done = client.redrive(request).await?.into_inner();
    Handled::new(group, done.results, done.next_cursor).map(axum::Json)
}

/// Drop a dead letter
///
/// Gives it up for good, and applies what waits behind it, in order. Repeating it is harmless: then
/// there is no such dead letter.
#[utoipa::path(
    post, path = "/v1/admin/dlq/{group}/drop", tag = "operations",
    operation_id = "dropDeadLetter",
    params(("group" = String, Path, description = "The consumer group", example = "inventory")),
    request_body = Surrender,
    responses((status = 200, description = "What became of its key", body = Handled), BodyProblems,
        ConflictProblem, NotFoundProblem, Secured),
    security(("bearer" = [])),
)]
pub(crate) async fn drop_dead_letter(
    State(app): State<App>,
    operator: Operator,
    Places(group): Places<String>,
    Json(surrender): Json<Surrender>,
) -> Result<axum::Json<Handled>, Problem> {
    let (group, mut client) = client(&app, &group)?;
    let warrant = warrant(&surrender.reason, operator)?;
    let selection = proto::Selection { target: Some(Target::EventId(surrender.event_id)) };
    let request = proto::DropRequest { selection: Some(selection), warrant: Some(warrant) };
    let request = grpc::deadline(request, app.limits.call_timeout());
    let done = client.drop(request).await?.into_inner();
    Handled::new(group, done.results, done.next_cursor).map(axum::Json)
}
