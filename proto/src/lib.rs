//! The contracts between the services: messages, clients and servers generated from `proto/`, and
//! the [`Event`] trait that ties each event message to its CloudEvents type and its topic.

mod event;
mod json;
mod redacted;

pub use event::{EVENT_TYPES, Event, TOPICS, Topic, message_name};
pub use json::event_json;

/// `portolan.common.v1`: types that every service shares.
pub mod common {
    pub mod v1 {
        tonic::include_proto!("portolan.common.v1");
    }
}
/// `portolan.order.v1`: the order service.
pub mod order {
    pub mod v1 {
        tonic::include_proto!("portolan.order.v1");
    }
}
/// `portolan.inventory.v1`: the inventory service.
pub mod inventory {
    pub mod v1 {
        tonic::include_proto!("portolan.inventory.v1");
    }
}
/// `portolan.payment.v1`: the payment service.
pub mod payment {
    pub mod v1 {
        tonic::include_proto!("portolan.payment.v1");
    }
}
/// `portolan.notification.v1`: the notification service.
pub mod notification {
    pub mod v1 {
        tonic::include_proto!("portolan.notification.v1");
    }
}
/// `portolan.events.v1`: what the services tell one another over Kafka.
pub mod events {
    pub mod v1 {
        tonic::include_proto!("portolan.events.v1");
    }
}
/// `portolan.ops.v1`: what an operator can do with dead letters.
pub mod ops {
    pub mod v1 {
        tonic::include_proto!("portolan.ops.v1");
    }
}
