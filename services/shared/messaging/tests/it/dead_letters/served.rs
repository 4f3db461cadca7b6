//! The service as the gateway calls it.

use portolan_kernel::OrderId;
use portolan_proto::ops::v1::{
    self as pb, dead_letter_service_server::DeadLetterService, selection::Target as Chosen,
};
use tonic::{Code, Request};
use uuid::Uuid;

use super::{Ops, ids, overlaps::crashed_at_gate, parked, queue};
use crate::support::{Bench, GATE, PANIC, POISON};

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_by_pages_shown_with_their_message_and_all_redriven() {
    let bench = Bench::new().await;
    let keys: Vec<OrderId> = (0..13).map(|_| bench.key()).collect();
    for key in &keys {
        bench.commit(&[bench.event(*key, POISON), bench.event(*key, "u")]).await;
    }
    let ops = bench.start_consumer(0).await;
    parked(&bench, 26).await;

    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let request = pb::ListRequest { limit: 5, cursor, key: String::new() };
        let page = ops.list(Request::new(request)).await.unwrap().into_inner();
        found.extend(page.dead_letters);
        cursor = page.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(found.len(), 13);
    assert!(
        found.iter().all(|letter| letter.waiting == 1 && letter.reason == "impossible_transition")
    );

    let event_id = found[0].event_id.clone();
    let show = async || {
        let request = pb::ShowRequest { event_id: event_id.clone() };
        ops.show(Request::new(request)).await.unwrap().into_inner()
    };
    let shown = show().await;
    assert!(shown.payload_json.contains(r#""user_id":"poison""#), "{}", shown.payload_json);
    assert_eq!((shown.waiting.len(), shown.history.len()), (1, 0));

    bench.bug.fix();
    let results = all(&ops).await;
    assert!(results.iter().all(|done| done.outcome() == pb::Outcome::Applied));
    assert_eq!(results.len(), 13);
    for key in keys {
        assert_eq!(bench.applied(key).await.len(), 2);
    }
    let shown = show().await;
    assert_eq!((shown.dead_letter, shown.history.len()), (None, 2));
    let unknown = pb::ShowRequest { event_id: Uuid::nil().to_string() };
    assert_eq!(ops.show(Request::new(unknown)).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_shown_with_what_waits_behind_it_and_what_it_waits_behind() {
    let bench = Bench::new().await;
    let (ops, _) = queue(&bench, &[POISON, "u", "u", "u"]).await;
    let waited = ids(&bench).await;
    let show = async |id: Uuid| {
        let request = Request::new(pb::ShowRequest { event_id: id.to_string() });
        ops.show(request).await.unwrap().into_inner()
    };
    for (place, first) in [(0, String::new()), (1, waited[0].to_string())] {
        let shown = show(waited[place]).await;
        let letter = shown.dead_letter.unwrap();
        let behind: Vec<_> = shown.waiting.into_iter().map(|event| event.event_id).collect();
        let expected: Vec<_> = waited[place + 1..].iter().map(Uuid::to_string).collect();
        assert_eq!((letter.behind, behind), (first, expected));
        assert_eq!(letter.waiting, i64::try_from(3 - place).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_of_one_key_does_not_keep_the_others_from_being_redriven() {
    let bench = Bench::new().await;
    let keys = [bench.key(), bench.key(), bench.key()];
    let events = [
        bench.event(keys[0], POISON),
        bench.event(keys[0], GATE),
        bench.event(keys[1], PANIC),
        bench.event(keys[2], POISON),
    ];
    let ops = bench.start_consumer(0).await;
    for (number, event) in events.iter().enumerate() {
        bench.commit(std::slice::from_ref(event)).await;
        parked(&bench, number + 1).await;
    }
    bench.outbox_empty().await;
    bench.bug.fix();
    let done = crashed_at_gate(&bench, all(&ops)).await;
    let outcomes: Vec<_> = done.iter().map(|done| (done.key.clone(), done.outcome())).collect();
    let expected = [pb::Outcome::Failed, pb::Outcome::Refused, pb::Outcome::Applied];
    assert_eq!(
        outcomes,
        keys.map(|key| key.to_string()).into_iter().zip(expected).collect::<Vec<_>>()
    );
    assert_eq!(done[0].waiting, 1);
    assert_eq!(bench.applied(keys[2]).await.len(), 1);
}

/// Redrives everything, call by call.
async fn all(ops: &Ops) -> Vec<pb::KeyResult> {
    let (mut results, mut cursor) = (Vec::new(), String::new());
    loop {
        let selection = Some(pb::Selection { target: Some(Chosen::AllFrom(cursor)) });
        let warrant = Some(pb::Warrant { operator: "olga".to_owned(), reason: "fixed".to_owned() });
        let request = Request::new(pb::RedriveRequest { selection, warrant });
        // The inherent method of the same name hides that of the service.
        let page = DeadLetterService::redrive(ops, request).await.unwrap().into_inner();
        results.extend(page.results);
        cursor = page.next_cursor;
        if cursor.is_empty() {
            return results;
        }
    }
}
