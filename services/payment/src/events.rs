//! What the service tells the others.

use portolan_kernel::Money;
use portolan_messaging::Outgoing;
use portolan_proto::{
    Event,
    common::v1 as common,
    events::v1::{
        PaymentAuthorized, PaymentCaptureFailed, PaymentCaptured, PaymentDeclined, PaymentVoided,
    },
};
use portolan_runtime::telemetry::TraceContext;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Payment, Status};

/// The circumstances of an event.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// Its id.
    pub id: Uuid,
    /// When it happened.
    pub at: OffsetDateTime,
    /// What caused it.
    pub trace: &'a TraceContext,
}

/// The event that tells the status a payment has just reached, if the others need to know it.
pub fn tell(payment: &Payment, stamp: &Stamp<'_>) -> Option<Outgoing> {
    let order_id = payment.order.to_string();
    let code = payment.code.clone().unwrap_or_default();
    let event = match payment.status {
        Status::Authorized => pack(
            payment,
            stamp,
            &PaymentAuthorized {
                order_id,
                psp_reference: payment.reference.clone().unwrap_or_default(),
                amount: payment.amount.map(money),
            },
        ),
        Status::Declined => pack(payment, stamp, &PaymentDeclined { order_id, code }),
        Status::Captured => {
            pack(payment, stamp, &PaymentCaptured { order_id, amount: payment.amount.map(money) })
        }
        Status::CaptureFailed => pack(payment, stamp, &PaymentCaptureFailed { order_id, code }),
        Status::Voided => pack(payment, stamp, &PaymentVoided { order_id }),
        Status::Authorizing | Status::Capturing | Status::Voiding | Status::Cancelled => {
            return None;
        }
    };
    Some(event)
}

fn pack<E: Event>(payment: &Payment, stamp: &Stamp<'_>, event: &E) -> Outgoing {
    Outgoing::new(stamp.id, payment.order, payment.version, stamp.at, stamp.trace, event)
}

/// An amount as messages carry it.
pub fn money(amount: Money) -> common::Money {
    common::Money { minor_units: amount.minor_units, currency: amount.currency.as_str().to_owned() }
}
