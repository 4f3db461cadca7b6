//! Topics and who reads them, for one order.

/// An event of one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    Placed,
    OrderConfirmed,
    OrderCancelled,
    OrderCompleted,
    Reserved,
    Rejected,
    Committed,
    Released,
    Authorized,
    Declined,
    Captured,
    CaptureFailed,
    Voided,
}

/// Where events are written, each kind by one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    Order,
    Inventory,
    Payment,
}

/// A consumer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    Order,
    Inventory,
    Payment,
    Notification,
}

/// Who reads what. The order service's own events only fill its timeline, and the notification's
/// are read for nothing else.
pub const SUBSCRIPTIONS: [(Group, Topic); 6] = [
    (Group::Inventory, Topic::Order),
    (Group::Payment, Topic::Inventory),
    (Group::Payment, Topic::Order),
    (Group::Order, Topic::Inventory),
    (Group::Order, Topic::Payment),
    (Group::Notification, Topic::Order),
];

/// One order's records in all topics, and how far each group has read them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Channels {
    order: Vec<Message>,
    inventory: Vec<Message>,
    payment: Vec<Message>,
    read: [usize; SUBSCRIPTIONS.len()],
}

impl Channels {
    /// Appends a record.
    pub fn write(&mut self, topic: Topic, message: Message) {
        match topic {
            Topic::Order => self.order.push(message),
            Topic::Inventory => self.inventory.push(message),
            Topic::Payment => self.payment.push(message),
        }
    }

    /// A topic's records.
    pub fn log(&self, topic: Topic) -> &[Message] {
        match topic {
            Topic::Order => &self.order,
            Topic::Inventory => &self.inventory,
            Topic::Payment => &self.payment,
        }
    }

    /// How many records the subscription of this number has read.
    pub fn read(&self, subscription: usize) -> usize {
        self.read[subscription]
    }

    /// How many records it has not read.
    pub fn lag(&self, subscription: usize) -> usize {
        let (_, topic) = SUBSCRIPTIONS[subscription];
        self.log(topic).len() - self.read[subscription]
    }

    /// Delivers the next record.
    pub fn next(&mut self, subscription: usize) -> Message {
        let (_, topic) = SUBSCRIPTIONS[subscription];
        let at = self.read[subscription];
        self.read[subscription] += 1;
        self.log(topic)[at]
    }
}
