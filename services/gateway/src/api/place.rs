use std::{collections::HashMap, fmt};

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header::LOCATION};
use portolan_proto::{
    common::v1::OrderLine as ProtoLine,
    order::v1::{PlaceOrderRequest, PlaceOrderResponse},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{
    Deserialize, Deserializer,
    de::{self, Unexpected, Visitor},
};
use tonic::Code;
use utoipa::ToSchema;

use super::{
    money::broken,
    order::{Order, carried},
};
use crate::{
    admission::{Placing, Room},
    app::App,
    extract::{Customer, IdempotencyKey, Json, Object, valid_sku},
    openapi::{BodyProblems, ConflictProblem, Secured},
    problem::{FieldError, Problem},
};

const MAX_LINES: usize = 1_000;
const MAX_QUANTITY: u64 = 100_000;
const TOKEN_PREFIX: &str = "tok_";
const MAX_TOKEN_REST: usize = 128;
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What to buy. Prices are the catalogue's.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOrder {
    /// Products and quantities; duplicates of a SKU are merged, 1 to 1000 lines must remain.
    #[schema(value_type = Vec<NewOrderLine>, min_items = 1)]
    lines: Vec<Object<NewOrderLine>>,
    /// The payment provider's single-use token for the customer's card.
    #[schema(value_type = String, pattern = "^tok_[!-~]{1,128}$", example = "tok_ok_1")]
    payment_token: SecretString,
}

/// One product to buy.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOrderLine {
    /// The product.
    #[schema(pattern = "^[!-~]{1,64}$", example = "85123A")]
    sku: String,
    /// How many, also after merging duplicates.
    #[schema(value_type = u32, minimum = 1, maximum = 100_000, example = 2)]
    quantity: Quantity,
}

/// A whole number that is not negative; its range is checked after merging.
#[derive(Clone, Copy, Debug)]
struct Quantity(u64);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(QuantityVisitor)
    }
}

struct QuantityVisitor;

impl Visitor<'_> for QuantityVisitor {
    type Value = Quantity;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a whole number from 1 to {MAX_QUANTITY}")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Quantity, E> {
        Ok(Quantity(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Quantity, E> {
        let negative = || E::invalid_value(Unexpected::Signed(value), &self);
        u64::try_from(value).map(Quantity).map_err(|_| negative())
    }
}

impl NewOrder {
    /// The lines as the customer wrote them, so that the order service's complaints have the same
    /// indices, and the token.
    fn checked(self) -> Result<(Vec<ProtoLine>, String), Problem> {
        let lines: Vec<NewOrderLine> = self.lines.into_iter().map(|Object(line)| line).collect();
        let mut errors = line_errors(&lines);
        let token = self.payment_token.expose_secret();
        if !valid_token(token) {
            errors
                .push(error("payment_token", "must be tok_ and 1 to 128 visible ASCII characters"));
        }
        if !errors.is_empty() {
            return Err(Problem::fields(errors));
        }
        let line = |line: NewOrderLine| {
            let quantity = u32::try_from(line.quantity.0).map_err(|_| broken("quantity"))?;
            Ok(ProtoLine { sku: line.sku, quantity })
        };
        let lines = lines.into_iter().map(line).collect::<Result<_, Problem>>()?;
        Ok((lines, token.to_owned()))
    }
}

fn line_errors(lines: &[NewOrderLine]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut merged: HashMap<&str, u64> = HashMap::new();
    for (index, line) in lines.iter().enumerate() {
        if !valid_sku(&line.sku) {
            let field = format!("lines[{index}].sku");
            errors.push(error(field, "must be 1 to 64 visible ASCII characters"));
        }
        let total = merged.entry(&line.sku).or_insert(0);
        *total = total.saturating_add(line.quantity.0);
        if line.quantity.0 == 0 || *total > MAX_QUANTITY {
            let message = format!("must be 1 to {MAX_QUANTITY} after merging duplicates");
            errors.push(error(format!("lines[{index}].quantity"), message));
        }
    }
    if merged.is_empty() || merged.len() > MAX_LINES {
        let message = format!("must be 1 to {MAX_LINES} lines after merging duplicates");
        errors.push(error("lines", message));
    }
    errors
}

fn error(field: impl Into<String>, message: impl Into<String>) -> FieldError {
    FieldError { field: field.into(), message: message.into() }
}

fn valid_token(token: &str) -> bool {
    let Some(rest) = token.strip_prefix(TOKEN_PREFIX) else { return false };
    let visible = rest.bytes().all(|byte| byte.is_ascii_graphic());
    (1..=MAX_TOKEN_REST).contains(&rest.len()) && visible
}

/// Place an order
///
/// The order is accepted and then reserved, paid and completed in the background: follow its
/// address or its events. The same key with the same body gives the same answer again, also while
/// the first request is still running; only then is `Idempotency-Replayed: true`.
#[utoipa::path(
    post, path = "/v1/orders", tag = "orders", operation_id = "placeOrder",
    params(("Idempotency-Key" = String, Header,
        pattern = r#"^([!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}")$"#,
        description = "The client's name for this attempt, unique per customer, bare or as a \
            quoted string. Repeat it when the outcome of a request is unknown.")),
    request_body = NewOrder,
    responses(
        (status = 202, description = "The order is accepted", body = Order, headers(
            ("Location" = String, description = "The order's address"),
            ("Idempotency-Replayed" = bool, description = "true if this answer was given before"),
        )),
        BodyProblems, ConflictProblem, Secured,
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn place_order(
    State(app): State<App>,
    _room: Room,
    customer: Customer,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    Json(new_order): Json<NewOrder>,
) -> Result<Response, Problem> {
    let (lines, payment_token) = new_order.checked()?;
    let user_id = customer.user_id();
    let skus: Vec<String> = lines.iter().map(|line| line.sku.clone()).collect();
    let request = PlaceOrderRequest { user_id, idempotency_key, lines, payment_token };
    let request = app.on_behalf(customer.identity(), request);
    let place = app.admission.enter()?;
    let placed = app.orders.clone().place_order(request).await;
    note(place, &placed);
    let placed = placed.map_err(|status| pointed(status.into(), &skus))?.into_inner();
    let order = carried(placed.order)?;
    accepted(&order, placed.replayed)
}

/// What the answer says about how much there is to do. None at all says that it is too much.
fn note(place: Placing<'_>, placed: &Result<tonic::Response<PlaceOrderResponse>, tonic::Status>) {
    match placed {
        Ok(placed) if !placed.get_ref().replayed => place.placed(),
        Err(status) if matches!(status.code(), Code::DeadlineExceeded | Code::Unavailable) => {}
        Ok(_) | Err(_) => place.answered(),
    }
}

/// The order service has merged the lines when it meets an unknown product, so it names the product
/// only: the client also gets the line.
fn pointed(mut problem: Problem, skus: &[String]) -> Problem {
    for error in problem.errors.iter_mut().filter(|error| error.field == "lines.sku") {
        let named = |sku: &String| error.message.split(' ').next() == Some(sku);
        if let Some(index) = skus.iter().position(named) {
            error.field = format!("lines[{index}].sku");
        }
    }
    problem
}

fn accepted(order: &Order, replayed: bool) -> Result<Response, Problem> {
    let location = HeaderValue::from_str(&format!("/v1/orders/{}", order.id));
    let location = location.map_err(|_| broken("order.id"))?;
    let mut response = (StatusCode::ACCEPTED, axum::Json(order)).into_response();
    response.headers_mut().insert(LOCATION, location);
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(lines: &[(&str, u64)], token: &str) -> Result<(Vec<ProtoLine>, String), Vec<String>> {
        let line = |(sku, quantity): &(&str, u64)| {
            Object(NewOrderLine { sku: (*sku).to_owned(), quantity: Quantity(*quantity) })
        };
        let lines = lines.iter().map(line).collect();
        let order = NewOrder { lines, payment_token: SecretString::from(token) };
        order.checked().map_err(|problem| {
            assert_eq!(problem.status.as_u16(), 422);
            problem.errors.iter().map(|error| error.field.clone()).collect()
        })
    }

    #[test]
    fn lines_keep_their_places() {
        let (lines, _) = order(&[("b", 1), ("a", 2), ("b", 99_999)], "tok_ok").unwrap();
        let skus: Vec<_> = lines.iter().map(|line| line.sku.as_str()).collect();
        assert_eq!(skus, ["b", "a", "b"]);
    }

    #[test]
    fn quantities_are_checked_after_merging() {
        let beyond = order(&[("b", 1), ("a", 2), ("b", 100_000)], "tok_ok");
        assert_eq!(beyond.unwrap_err(), ["lines[2].quantity"]);
        let both = order(&[("a", 0), ("b", u64::MAX)], "tok_ok");
        assert_eq!(both.unwrap_err(), ["lines[0].quantity", "lines[1].quantity"]);
    }

    #[test]
    fn there_is_at_least_one_line_and_at_most_a_thousand() {
        assert_eq!(order(&[], "tok_ok").unwrap_err(), ["lines"]);
        let skus: Vec<String> = (0..1_001).map(|n| format!("sku{n}")).collect();
        let mut lines: Vec<(&str, u64)> = skus.iter().map(|sku| (sku.as_str(), 1)).collect();
        assert_eq!(order(&lines, "tok_ok").unwrap_err(), ["lines"]);
        lines[1_000].0 = "sku0";
        assert!(order(&lines, "tok_ok").is_ok());
    }

    #[test]
    fn skus_and_tokens_have_their_form() {
        let long = "x".repeat(65);
        for bad in ["", "a b", "é", long.as_str()] {
            assert_eq!(order(&[(bad, 1)], "tok_ok").unwrap_err(), ["lines[0].sku"]);
        }
        let long = format!("tok_{}", "x".repeat(129));
        for bad in ["", "tok_", "ok", "tok_a b", long.as_str()] {
            assert_eq!(order(&[("a", 1)], bad).unwrap_err(), ["payment_token"]);
        }
    }
}
