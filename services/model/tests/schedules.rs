//! Whatever is delivered late, again, or in another order than it was said, and whatever is lost on
//! the way to the provider and back: the machines agree in the end.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use portolan_model::{
    Action, Budget, Saga, World,
    channel::{Message, Topic},
    explore::{Explored, explore},
};
use portolan_notification::domain::Kind;
use portolan_order::domain::State;
use portolan_payment::psp::Card;
use proptest::prelude::*;

const CALM: Budget = Budget { redeliveries: 0, losses: 0, overlaps: 0, cancel: true };

fn world(stock: i64, sagas: impl IntoIterator<Item = (Card, Budget)>) -> World {
    let sagas = sagas.into_iter().zip(1..);
    let sagas = sagas.map(|((card, budget), number)| Saga::placed(number, card, budget));
    World::new("tea".parse().unwrap(), stock, sagas.collect())
}

fn all(start: World) -> Explored {
    explore(start).unwrap_or_else(|counterexample| panic!("{counterexample}"))
}

fn endings(explored: &Explored) -> BTreeSet<&str> {
    explored.endings.iter().map(String::as_str).collect()
}

#[test]
fn one_order_ends_well_in_every_schedule_with_each_card() {
    let budget = Budget { redeliveries: 1, losses: 1, overlaps: 1, cancel: true };
    let late = ["CANCELLED CUSTOMER", "CANCELLED TIMEOUT"];
    for (card, own) in [
        (Card::Good, "COMPLETED"),
        (Card::InsufficientFunds, "CANCELLED PAYMENT_DECLINED"),
        (Card::CaptureFails, "CANCELLED CAPTURE_FAILED"),
        (Card::Hangs, "AWAITING_PAYMENT"),
    ] {
        let explored = all(world(1, [(card, budget)]));
        assert!(explored.endings.contains(own), "{card:?}: {:?}", explored.endings);
        assert!(late.iter().all(|ending| explored.endings.contains(*ending)), "{card:?}");
    }
}

#[test]
fn one_order_without_stock_is_cancelled_in_every_schedule_and_nobody_pays() {
    let budget = Budget { redeliveries: 2, losses: 1, overlaps: 1, cancel: true };
    let explored = all(world(0, [(Card::Good, budget)]));
    let expected = ["CANCELLED CUSTOMER", "CANCELLED OUT_OF_STOCK", "CANCELLED TIMEOUT"];
    assert_eq!(endings(&explored), BTreeSet::from(expected));
}

#[test]
fn of_two_orders_for_the_last_piece_one_gets_it_in_every_schedule() {
    let patient = Budget { cancel: false, ..CALM };
    let explored = all(world(1, [(Card::Good, patient), (Card::Good, patient)]));
    let endings = endings(&explored);
    assert!(endings.contains("COMPLETED, CANCELLED OUT_OF_STOCK"), "{endings:?}");
    assert!(endings.contains("CANCELLED OUT_OF_STOCK, COMPLETED"), "{endings:?}");
    assert!(!endings.contains("COMPLETED, COMPLETED"), "sold twice");
}

/// A world after everything that is certain has happened.
fn at_rest(mut world: World) -> World {
    while let Some(action) = world.due().first().copied() {
        world.act(action).unwrap();
    }
    world
}

#[test]
fn what_does_not_agree_is_found() {
    let done = at_rest(world(1, [(Card::Good, CALM)]));
    assert_eq!(endings(&all(done.clone())), BTreeSet::new(), "nothing happens any more");
    assert_eq!(done.check(), Ok(()));
    let wrong: [fn(&mut Saga); 5] = [
        |saga| saga.letter = Some(Kind::Cancelled),
        |saga| saga.letter = None,
        |saga| saga.payment = None,
        |saga| saga.order.captured = false,
        |saga| saga.order.state = State::Confirmed,
    ];
    for plant in wrong {
        let mut world = done.clone();
        plant(&mut world.orders[0]);
        assert!(world.check().is_err(), "{:?}", world.orders[0]);
    }
}

#[test]
fn what_cannot_be_is_called_impossible_and_the_schedule_is_told() {
    // Money that was never asked for: no schedule of the real machines leads there.
    let mut forged = world(1, [(Card::Good, CALM)]);
    forged.orders[0].channels.write(Topic::Payment, Message::Captured);
    let counterexample = explore(forged).unwrap_err();
    assert!(counterexample.violation.0.contains("Captured"), "{counterexample}");
    assert!(!counterexample.schedule.is_empty());
}

fn card() -> impl Strategy<Value = Card> {
    prop_oneof![
        4 => Just(Card::Good),
        2 => Just(Card::CaptureFails),
        1 => Just(Card::InsufficientFunds),
        1 => Just(Card::Hangs),
    ]
}

fn budget() -> impl Strategy<Value = Budget> {
    (0..6_u8, 0..4_u8, 0..3_u8, any::<bool>()).prop_map(
        |(redeliveries, losses, overlaps, cancel)| Budget {
            redeliveries,
            losses,
            overlaps,
            cancel,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_orders_end_well_in_any_schedule(
        stock in 0..3_i64,
        sagas in prop::array::uniform2((card(), budget())),
        // Sweeping and cancelling end an order soon: rare, so that others get far.
        picks in prop::collection::vec((any::<u16>(), 0..20_u8), 0..200),
    ) {
        let mut world = world(stock, sagas);
        let mut schedule = Vec::new();
        let mut do_it = |world: &mut World, action: Action| {
            schedule.push(action);
            world.act(action).map_err(|violation| {
                TestCaseError::fail(format!("{violation} after {schedule:#?}"))
            })
        };
        for (pick, rarely) in picks {
            let mut actions = world.actions();
            let ends = |a: &Action| matches!(a, Action::Sweep { .. } | Action::Cancel { .. });
            if rarely > 0 && actions.iter().any(|action| !ends(action)) {
                actions.retain(|action| !ends(action));
            }
            if actions.is_empty() {
                break;
            }
            do_it(&mut world, actions[usize::from(pick) % actions.len()])?;
        }
        // What is under way comes to its end, and what waits for ever is swept.
        loop {
            let mut due = world.due();
            due.extend(world.actions().into_iter().filter(|a| matches!(a, Action::Sweep { .. })));
            let Some(action) = due.first() else { break };
            do_it(&mut world, *action)?;
        }
        for saga in &world.orders {
            prop_assert!(saga.order.state.is_final());
        }
    }
}
