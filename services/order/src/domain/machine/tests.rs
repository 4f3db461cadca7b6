use proptest::prelude::*;

use super::*;

fn at(state: State) -> Order {
    let reason = (state == State::Cancelled).then_some(Reason::Customer);
    let done = state == State::Completed;
    Order { state, reason, captured: done, committed: done, version: 3 }
}

/// One letter for each answer, states down, events across, in the order of `ALL`:
/// A awaiting, K confirmed, X cancelled, C completed, f flag, . ignored, r refused, ! impossible.
const TABLE: [(State, &str); 5] = [
    (State::Pending, "AXKXXX!!!"),
    (State::AwaitingPayment, ".!KXXX!!!"),
    (State::Confirmed, ".!.!.rffX"),
    (State::Completed, ".!.!.r..!"),
    (State::Cancelled, ".......!."),
];

fn letter(step: Step) -> char {
    match step {
        Step::Moved(order, _) => match order.state {
            State::Pending => 'P',
            State::AwaitingPayment => 'A',
            State::Confirmed => 'K',
            State::Completed => 'C',
            State::Cancelled => 'X',
        },
        Step::Flagged(_) => 'f',
        Step::Ignored => '.',
        Step::Refused => 'r',
        Step::Impossible => '!',
    }
}

#[test]
fn every_pair_of_state_and_event_has_the_answer_of_the_table() {
    for (state, expected) in TABLE {
        let row: String =
            Event::ALL.into_iter().map(|event| letter(step(at(state), event))).collect();
        assert_eq!(row, expected, "{state}");
    }
}

#[test]
fn an_order_completes_when_both_goods_and_money_are_in_whichever_comes_first() {
    for pair in [[Event::Committed, Event::Captured], [Event::Captured, Event::Committed]] {
        let Step::Flagged(half) = step(at(State::Confirmed), pair[0]) else { panic!("no flag") };
        assert_eq!(half.version, 3, "a flag alone changes no version");
        assert_eq!(step(half, pair[0]), Step::Ignored);
        let Step::Moved(whole, effect) = step(half, pair[1]) else { panic!("no move") };
        assert_eq!((whole.state, whole.version, effect), (State::Completed, 4, Effect::Complete));
    }
}

#[test]
fn a_captured_payment_can_not_fail_to_be_captured() {
    let captured = Order { captured: true, ..at(State::Confirmed) };
    assert_eq!(step(captured, Event::CaptureFailed), Step::Impossible);
}

#[test]
fn names_survive_the_way_through_the_database() {
    for state in State::ALL {
        assert_eq!(state.as_str().parse::<State>().unwrap(), state);
    }
    for reason in Reason::ALL {
        assert_eq!(reason.as_str().parse::<Reason>().unwrap(), reason);
    }
    assert!("LOST".parse::<State>().is_err());
}

proptest! {
    #[test]
    fn whatever_happens_at_most_one_decision_is_made_and_final_is_final(
        events in proptest::collection::vec(proptest::sample::select(Event::ALL.to_vec()), 0..40)
    ) {
        let mut order = Order::placed();
        let (mut confirmed, mut cancelled, mut completed) = (0, 0, 0);
        for event in events {
            if let Step::Moved(next, effect) = step(order, event) {
                prop_assert!(!order.state.is_final());
                prop_assert_eq!(next.version, order.version + 1);
                match effect {
                    Effect::Silent => {}
                    Effect::Confirm => confirmed += 1,
                    Effect::Cancel(_) => cancelled += 1,
                    Effect::Complete => completed += 1,
                }
                order = next;
            } else if let Step::Flagged(next) = step(order, event) {
                order = next;
            }
            prop_assert_eq!(order.reason.is_some(), order.state == State::Cancelled);
            prop_assert!(confirmed <= 1 && cancelled + completed <= 1);
            prop_assert!(completed <= confirmed);
            prop_assert_eq!(completed == 1, order.captured && order.committed);
        }
    }

    #[test]
    fn delivering_an_event_twice_is_delivering_it_once(
        events in proptest::collection::vec(proptest::sample::select(Event::ALL.to_vec()), 0..40)
    ) {
        let apply = |order: Order, event| match step(order, event) {
            Step::Moved(next, _) | Step::Flagged(next) => next,
            Step::Ignored | Step::Refused | Step::Impossible => order,
        };
        let mut order = Order::placed();
        for event in events {
            let once = apply(order, event);
            // The one event that means something else the second time would be a bug.
            prop_assert_eq!(apply(once, event), once);
            order = once;
        }
    }
}
