//! The description of the interface (`OpenAPI` 3.1), generated from the handlers.

use std::collections::BTreeMap;

use http::StatusCode;
use utoipa::{
    IntoResponses, Modify, OpenApi, ToSchema as _,
    openapi::{
        self, ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder,
        Type,
        schema::SchemaType,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{
    api::{dead_letters, events, meta, orders, place, products, stats, timeline, tokens},
    problem::{FieldError, KINDS, MEDIA_TYPE, ProblemDocument},
    rate::header::{DRAFT, LIMIT, POLICY},
};

#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Portolan",
        description = "A small shop that loses nothing. Amounts are whole minor units of a \
            currency. Every error is a problem document (RFC 9457).",
    ),
    servers((url = "/")),
    tags(
        (name = "tokens", description = "Logging in"),
        (name = "products", description = "The catalogue"),
        (name = "orders", description = "Placing and following orders"),
        (name = "customers", description = "The caller's own figures"),
        (name = "operations", description = "Dead letters, for operators"),
        (name = "meta", description = "This description"),
    ),
    paths(
        tokens::create_token, meta::get_keys, products::list_products, products::get_product,
        place::place_order, orders::list_orders, orders::get_order, orders::cancel_order,
        timeline::get_timeline, events::watch_order, stats::get_stats,
        dead_letters::list_dead_letters, dead_letters::get_dead_letter,
        dead_letters::redrive_dead_letters, dead_letters::drop_dead_letter,
        meta::get_description,
    ),
    components(schemas(ProblemDocument, FieldError)),
    modifiers(&Bearer, &Everywhere),
)]
struct Description;

/// The description as indented JSON with a final line end.
///
/// # Errors
/// It cannot be written as JSON.
pub fn json() -> Result<String, serde_json::Error> {
    Description::openapi().to_pretty_json().map(|text| text + "\n")
}

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, description: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
        let scheme = scheme.description(Some(
            "A JSON Web Token (EdDSA or RS256) with the role customer or operator.",
        ));
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme.build()));
    }
}

/// What every operation can answer.
struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, description: &mut openapi::OpenApi) {
        for item in description.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post];
            for operation in operations.into_iter().flatten() {
                for status in [429, 500, 503, 504] {
                    let (code, response) = problem(status);
                    operation.responses.responses.entry(code).or_insert(response);
                }
            }
        }
    }
}

macro_rules! problem_responses {
    ($($(#[$doc:meta])* $name:ident: $($status:literal),*;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                BTreeMap::from([$(problem($status)),*])
            }
        }
    )*};
}

problem_responses! {
    /// The caller is not known or not allowed.
    Secured: 401, 403;
    /// The credentials are wrong.
    LoginProblem: 401;
    /// There is no such thing.
    NotFoundProblem: 404;
    /// The state forbids it.
    ConflictProblem: 409;
    /// A query parameter is not acceptable.
    QueryProblem: 422;
    /// The body cannot be read or is not acceptable.
    BodyProblems: 400, 413, 415, 422;
}

/// The response of a status: a problem document whose `code` is one of those of the status.
fn problem(status: u16) -> (String, RefOr<Response>) {
    let of_status = KINDS.iter().filter(|kind| kind.status.as_u16() == status);
    let codes: Vec<String> = of_status.map(|kind| format!("`{}`", kind.code)).collect();
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let description = format!("{}: {}", reason.unwrap_or("Problem"), codes.join(", "));
    let schema = Ref::from_schema_name(ProblemDocument::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let mut response = ResponseBuilder::new().description(description).content(MEDIA_TYPE, content);
    response =
        response.header("x-trace-id", header("The trace id, as in the document", Type::String));
    if matches!(status, 409 | 429 | 503) {
        response = response
            .header("Retry-After", header("Seconds to wait, if waiting helps", Type::Integer));
    }
    if status == 429 {
        response = rate_limited(response);
    }
    if status == 401 {
        response = response.header("WWW-Authenticate", header("The scheme to use", Type::String));
    }
    (status.to_string(), response.build().into())
}

/// Other answers have these fields too; here they say which budget is used up.
fn rate_limited(response: ResponseBuilder) -> ResponseBuilder {
    let policy = format!(
        "The budgets that counted the request: `q` requests at once, and as many again evenly in \
         `w` seconds ({DRAFT})"
    );
    let limit = format!(
        "What each has left: `r` requests, and no more than that within `t` seconds ({DRAFT})"
    );
    response
        .header(POLICY.as_str(), header(&policy, Type::String))
        .header(LIMIT.as_str(), header(&limit, Type::String))
}

fn header(description: &str, kind: Type) -> openapi::header::Header {
    let schema = ObjectBuilder::new().schema_type(SchemaType::new(kind)).build();
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}
