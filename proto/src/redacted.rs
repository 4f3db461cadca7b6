//! `Debug` for the messages that carry a card token, without the token.

use std::fmt;

use crate::{events::v1 as events, order::v1 as order};

const REDACTED: &str = "[redacted]";

impl fmt::Debug for order::PlaceOrderRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaceOrderRequest")
            .field("user_id", &self.user_id)
            .field("idempotency_key", &self.idempotency_key)
            .field("lines", &self.lines)
            .field("payment_token", &REDACTED)
            .finish()
    }
}

impl fmt::Debug for events::OrderPlaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderPlaced")
            .field("order_id", &self.order_id)
            .field("user_id", &self.user_id)
            .field("lines", &self.lines)
            .field("amount", &self.amount)
            .field("payment_token", &REDACTED)
            .field("placed_at", &self.placed_at)
            .field("deadline", &self.deadline)
            .finish()
    }
}

impl fmt::Debug for events::InventoryReserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InventoryReserved")
            .field("order_id", &self.order_id)
            .field("user_id", &self.user_id)
            .field("amount", &self.amount)
            .field("payment_token", &REDACTED)
            .field("deadline", &self.deadline)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_token_never_shows_in_debug_output() {
        let token = "tok_secret".to_owned();
        let shown = [
            format!(
                "{:?}",
                order::PlaceOrderRequest { payment_token: token.clone(), ..Default::default() }
            ),
            format!(
                "{:?}",
                events::OrderPlaced { payment_token: token.clone(), ..Default::default() }
            ),
            format!(
                "{:?}",
                events::InventoryReserved { payment_token: token, ..Default::default() }
            ),
        ];
        for text in shown {
            assert!(!text.contains("tok_secret"), "{text}");
        }
    }
}
