//! Who is in the next batch of placements: everybody who waits, but one entry for each customer.

use std::collections::{HashMap, HashSet};

use tokio::sync::{mpsc, oneshot};

use super::{
    Error,
    batcher::{Entry, Verdict},
};

const MAX_BATCH: usize = 64;
/// How many orders of one customer wait for later batches, requests with the same key counting once:
/// they wait for their one answer. With the customer's lock there is never another order; without
/// it, nobody may fill the line with orders of his own.
const MAX_HELD: usize = 8;

/// An entry, and where to tell what became of it.
pub(super) type Waiting = (Entry, oneshot::Sender<Verdict>);

/// The entries that wait.
#[derive(Debug)]
pub(super) struct Line {
    queue: mpsc::Receiver<Waiting>,
    /// Those whose customer had an entry in the batch before.
    held: Vec<Waiting>,
}

impl Line {
    pub(super) fn new(queue: mpsc::Receiver<Waiting>) -> Self {
        Self { queue, held: Vec::new() }
    }

    /// Waits for a first entry, then takes what is there already. None: there will be no more.
    pub(super) async fn next_batch(&mut self) -> Option<Vec<Waiting>> {
        let mut batch = Batch::default();
        for waiting in std::mem::take(&mut self.held) {
            batch.add(waiting);
        }
        if batch.entries.is_empty() {
            batch.add(self.queue.recv().await?);
        }
        while batch.entries.len() < MAX_BATCH {
            let Ok(waiting) = self.queue.try_recv() else { break };
            batch.add(waiting);
        }
        self.held = batch.held;
        Some(batch.entries)
    }
}

#[derive(Debug, Default)]
struct Batch {
    entries: Vec<Waiting>,
    users: HashSet<String>,
    held: Vec<Waiting>,
    /// The keys of those, by customer.
    held_keys: HashMap<String, HashSet<String>>,
}

impl Batch {
    fn add(&mut self, (entry, reply): Waiting) {
        if self.users.insert(entry.user_id.clone()) {
            self.entries.push((entry, reply));
            return;
        }
        let keys = self.held_keys.entry(entry.user_id.clone()).or_default();
        if keys.len() < MAX_HELD || keys.contains(&entry.key) {
            keys.insert(entry.key.clone());
            self.held.push((entry, reply));
        } else {
            super::batcher::answer(reply, Verdict::Failed(Error::UserBusy));
        }
    }
}

#[cfg(test)]
mod tests {
    use portolan_runtime::telemetry::TraceContext;

    use super::*;

    fn entry(user: &str, key: usize) -> Entry {
        Entry {
            user_id: user.to_owned(),
            key: key.to_string(),
            fingerprint: Vec::new(),
            lines: Vec::new(),
            amount_minor: 1,
            currency: "GBP".to_owned(),
            payment_token: "tok_ok".to_owned(),
            trace: TraceContext::default(),
            guard: None,
        }
    }

    fn users(batch: &[Waiting]) -> Vec<&str> {
        batch.iter().map(|(entry, _)| entry.user_id.as_str()).collect()
    }

    #[tokio::test]
    async fn one_customer_with_many_orders_takes_one_place_and_keeps_nobody_out() {
        let (sender, queue) = mpsc::channel(1_024);
        let mut replies = Vec::new();
        for (user, key) in (0..200).map(|key| ("xavier", key)).chain([("alice", 1), ("bob", 2)]) {
            let (reply, verdict) = oneshot::channel();
            sender.send((entry(user, key), reply)).await.unwrap();
            replies.push(verdict);
        }
        let mut line = Line::new(queue);
        assert_eq!(users(&line.next_batch().await.unwrap()), ["xavier", "alice", "bob"]);
        let busy = replies.iter_mut().filter_map(|reply| reply.try_recv().ok());
        let busy = busy.filter(|verdict| matches!(verdict, Verdict::Failed(Error::UserBusy)));
        assert_eq!(busy.count(), 200 - 1 - MAX_HELD);
        for _ in 0..MAX_HELD {
            assert_eq!(users(&line.next_batch().await.unwrap()), ["xavier"]);
        }
        drop(sender);
        assert!(line.next_batch().await.is_none());
    }

    #[tokio::test]
    async fn requests_with_one_key_all_wait_for_its_answer() {
        let (sender, queue) = mpsc::channel(1_024);
        let mut replies = Vec::new();
        for _ in 0..100 {
            let (reply, verdict) = oneshot::channel();
            sender.send((entry("alice", 1), reply)).await.unwrap();
            replies.push(verdict);
        }
        let mut line = Line::new(queue);
        assert_eq!(users(&line.next_batch().await.unwrap()), ["alice"]);
        assert_eq!(line.held.len(), 99);
    }

    #[test]
    fn an_entry_does_not_show_its_card() {
        assert!(!format!("{:?}", entry("alice", 1)).contains("tok_ok"));
    }
}
