use crate::events::v1 as events;

/// A Kafka topic: one for each service, keyed by order id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    Order,
    Inventory,
    Payment,
    Notification,
}

/// Every topic that carries events.
pub const TOPICS: [Topic; 4] =
    [Topic::Order, Topic::Inventory, Topic::Payment, Topic::Notification];

impl Topic {
    /// The topic's name without the prefix that a deployment or a test may put before it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Order => "portolan.order.v1",
            Self::Inventory => "portolan.inventory.v1",
            Self::Payment => "portolan.payment.v1",
            Self::Notification => "portolan.notification.v1",
        }
    }

    /// The CloudEvents `source` of the events on this topic: the one service that writes it.
    pub const fn source(self) -> &'static str {
        match self {
            Self::Order => "/portolan/order",
            Self::Inventory => "/portolan/inventory",
            Self::Payment => "/portolan/payment",
            Self::Notification => "/portolan/notification",
        }
    }
}

/// An event message: its CloudEvents type and the topic it is published on.
pub trait Event: prost::Message + Default {
    /// The CloudEvents `type`, for instance `portolan.order.placed.v1`.
    const TYPE: &'static str;
    /// Where it is published.
    const TOPIC: Topic;
}

macro_rules! events {
    ($($message:ident => $topic:ident, $name:literal;)*) => {
        $(impl Event for events::$message {
            const TYPE: &'static str = concat!("portolan.", $name, ".v1");
            const TOPIC: Topic = Topic::$topic;
        })*

        /// The full name of the message of an event type. `None` if it is not ours.
        pub fn message_name(event_type: &str) -> Option<&'static str> {
            match event_type {
                $(concat!("portolan.", $name, ".v1") => {
                    Some(concat!("portolan.events.v1.", stringify!($message)))
                })*
                _ => None,
            }
        }

        /// Every event type with its topic.
        pub const EVENT_TYPES: &[(&str, Topic)] =
            &[$((concat!("portolan.", $name, ".v1"), Topic::$topic)),*];
    };
}

events! {
    OrderPlaced => Order, "order.placed";
    OrderConfirmed => Order, "order.confirmed";
    OrderCancelled => Order, "order.cancelled";
    OrderCompleted => Order, "order.completed";
    InventoryReserved => Inventory, "inventory.reserved";
    InventoryRejected => Inventory, "inventory.rejected";
    InventoryCommitted => Inventory, "inventory.committed";
    InventoryReleased => Inventory, "inventory.released";
    PaymentAuthorized => Payment, "payment.authorized";
    PaymentDeclined => Payment, "payment.declined";
    PaymentCaptured => Payment, "payment.captured";
    PaymentVoided => Payment, "payment.voided";
    PaymentCaptureFailed => Payment, "payment.capture_failed";
    NotificationSent => Notification, "notification.sent";
    NotificationFailed => Notification, "notification.failed";
}
