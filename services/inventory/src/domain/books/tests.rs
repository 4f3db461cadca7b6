use std::collections::HashSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::Level;

const STOCK: i64 = 20;
const SKUS: [&str; 3] = ["a", "b", "c"];

fn sku(text: &str) -> Sku {
    text.parse().unwrap()
}

fn shelves() -> Levels {
    Levels::new(SKUS.map(|text| (sku(text), Level { available: STOCK, reserved: 0 })))
}

fn order(number: u128) -> OrderId {
    OrderId(Uuid::from_u128(number))
}

/// How an order goes as seen on the topic: always placed first, then decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    Confirmed,
    Cancelled,
    ConfirmedThenCancelled,
    Undecided,
}

fn story_events(story: Story, lines: &[Line]) -> Vec<OrderEvent> {
    let placed = OrderEvent::Placed(lines.to_vec());
    match story {
        Story::Confirmed => vec![placed, OrderEvent::Confirmed],
        Story::Cancelled => vec![placed, OrderEvent::Cancelled],
        Story::ConfirmedThenCancelled => {
            vec![placed, OrderEvent::Confirmed, OrderEvent::Cancelled]
        }
        Story::Undecided => vec![placed],
    }
}

fn stories() -> impl Strategy<Value = Vec<(Story, Vec<Line>)>> {
    let story = prop_oneof![
        Just(Story::Confirmed),
        Just(Story::Cancelled),
        Just(Story::ConfirmedThenCancelled),
        Just(Story::Undecided),
    ];
    let quantities = proptest::collection::vec(0_u32..9, SKUS.len());
    let lines = quantities.prop_map(|quantities| {
        SKUS.iter()
            .zip(quantities)
            .filter(|(_, quantity)| *quantity > 0)
            .map(|(text, quantity)| Line { sku: sku(text), quantity })
            .collect()
    });
    proptest::collection::vec((story, lines), 1..8)
}

/// What must hold at any time, whatever happened.
fn check(books: &Books, all: &HashSet<OrderId>) {
    for text in SKUS {
        let sku = sku(text);
        let level = books.levels().get(&sku).unwrap();
        assert!(level.available >= 0 && level.reserved >= 0, "{sku}: {level:?}");
        let entries = || books.entries().iter().filter(|entry| entry.sku == sku);
        assert_eq!(level.available, STOCK + entries().map(|e| e.available).sum::<i64>());
        assert_eq!(level.reserved, entries().map(|e| e.reserved).sum::<i64>());

        let held = |state: State| -> i64 {
            all.iter()
                .filter_map(|id| books.reservation(*id))
                .filter(|reservation| reservation.state == state)
                .flat_map(|reservation| &reservation.lines)
                .filter(|line| line.sku == sku)
                .map(|line| i64::from(line.quantity))
                .sum()
        };
        assert_eq!(level.reserved, held(State::Reserved), "reserved of {sku}");
        assert_eq!(level.on_hand(), STOCK - held(State::Committed), "on hand of {sku}");
    }
    let keys: HashSet<_> = books.entries().iter().map(|e| (e.cause, &e.sku, e.kind)).collect();
    assert_eq!(keys.len(), books.entries().len(), "an effect happened twice");
}

proptest! {
    /// Duplicates and older records at any place, the first occurrences of each order in order,
    /// orders interleaved at will: each ends where its story ends, and no piece is lost or made.
    #[test]
    fn duplicated_and_interleaved_events_end_in_the_right_state(
        stories in stories(),
        picks in proptest::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..60),
    ) {
        let events: Vec<Vec<OrderEvent>> =
            stories.iter().map(|(story, lines)| story_events(*story, lines)).collect();
        let all: HashSet<OrderId> = (0..events.len()).map(|n| order(n as u128)).collect();
        let mut seen = vec![0; events.len()];
        let mut books = Books::new([], shelves());

        let deliver = |books: &mut Books, who: usize, which: usize| {
            // An order that was rejected is never confirmed: the order service decides on it.
            let state = books.reservation(order(who as u128)).map(|r| r.state);
            if state == Some(State::Rejected) && events[who][which] == OrderEvent::Confirmed {
                return;
            }
            books.apply(order(who as u128), &events[who][which]).unwrap();
            check(books, &all);
        };
        for (who, which) in picks {
            let who = who.index(events.len());
            // Anything delivered before, or the next one.
            let which = which.index(events[who].len().min(seen[who] + 1));
            deliver(&mut books, who, which);
            seen[who] = seen[who].max(which + 1);
        }
        for who in 0..events.len() {
            for which in seen[who]..events[who].len() {
                deliver(&mut books, who, which);
            }
        }

        for (who, (story, _)) in stories.iter().enumerate() {
            let reservation = books.reservation(order(who as u128)).unwrap();
            let expected = match (story, reservation.state) {
                (_, State::Rejected) => State::Rejected,
                (Story::Undecided, _) => State::Reserved,
                (Story::Confirmed, _) => State::Committed,
                (Story::Cancelled, _) => State::Released { was_committed: false },
                (Story::ConfirmedThenCancelled, _) => State::Released { was_committed: true },
            };
            prop_assert_eq!(reservation.state, expected);
        }
    }

    /// The undo before the do, in any number and order: nothing is ever set aside.
    #[test]
    fn an_order_cancelled_before_it_was_seen_never_takes_stock(
        later in proptest::collection::vec(any::<bool>(), 0..10),
    ) {
        let mut books = Books::new([], shelves());
        prop_assert_eq!(books.apply(order(1), &OrderEvent::Cancelled), Ok(Outcome::Tombstone));
        let placed = OrderEvent::Placed(vec![Line { sku: sku("a"), quantity: 1 }]);
        for is_placed in later {
            let event = if is_placed { &placed } else { &OrderEvent::Cancelled };
            let outcome = books.apply(order(1), event);
            prop_assert!(matches!(outcome, Ok(Outcome::Ignored(_))), "{:?}", outcome);
        }
        prop_assert!(books.entries().is_empty());
        prop_assert_eq!(books.levels().changed().count(), 0);
    }

    /// Any events at all, also impossible ones (which change nothing): the shelves add up.
    #[test]
    fn no_sequence_of_events_makes_or_loses_stock(
        events in proptest::collection::vec((0_u128..4, 0_u8..3, 1_u32..15), 0..80),
    ) {
        let all: HashSet<OrderId> = (0..4).map(order).collect();
        let mut books = Books::new([], shelves());
        for (who, what, quantity) in events {
            let event = match what {
                0 => OrderEvent::Placed(vec![Line { sku: sku("a"), quantity }]),
                1 => OrderEvent::Confirmed,
                _ => OrderEvent::Cancelled,
            };
            let before = books.reservation(order(who)).cloned();
            if books.apply(order(who), &event).is_err() {
                prop_assert_eq!(books.reservation(order(who)), before.as_ref());
            }
            check(&books, &all);
        }
    }
}

#[test]
fn only_the_event_that_changes_something_reports_it() {
    let mut books = Books::new([], shelves());
    let placed = OrderEvent::Placed(vec![Line { sku: sku("a"), quantity: 1 }]);
    let changed = |effect, version| Ok(Outcome::Changed(effect, version));
    let ignored = Ok(Outcome::Ignored(Ignored::Duplicate));

    assert_eq!(books.apply(order(1), &placed), changed(Effect::Reserved, 1));
    assert_eq!(books.apply(order(1), &placed), ignored);
    assert_eq!(books.apply(order(1), &OrderEvent::Confirmed), changed(Effect::Committed, 2));
    assert_eq!(books.apply(order(1), &OrderEvent::Confirmed), ignored);
    assert_eq!(books.apply(order(1), &OrderEvent::Cancelled), changed(Effect::Released, 3));
    assert_eq!(books.apply(order(1), &OrderEvent::Cancelled), ignored);
    assert_eq!(books.apply(order(1), &OrderEvent::Confirmed), ignored);
}

#[test]
fn stored_reservations_that_did_not_change_are_not_written_back() {
    let stored = Reservation {
        state: State::Reserved,
        version: 1,
        lines: vec![Line { sku: sku("a"), quantity: 1 }],
        missing: None,
    };
    let levels = Levels::new([(sku("a"), Level { available: 19, reserved: 1 })]);
    let mut books = Books::new([(order(1), stored)], levels);
    books.apply(order(1), &OrderEvent::Placed(vec![])).unwrap();
    assert_eq!(books.changed().count(), 0);
    books.apply(order(1), &OrderEvent::Cancelled).unwrap();
    let (id, changed) = books.changed().next().unwrap();
    assert_eq!((id, changed.stored, changed.reservation.version), (order(1), Some(1), 2));
}
