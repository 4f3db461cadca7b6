//! One order is one trace, from the request through every service to the notification.
#![expect(clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use portolan_e2e::{Collector, Options, Service, Shop, Span};
use portolan_testkit::{PATIENCE, eventually, free_port};

/// A trace whose spans have all arrived.
struct Trace(Vec<Span>);

impl Trace {
    fn all(&self, service: Service, kind: SpanKind, part_of: &str) -> impl Iterator<Item = &Span> {
        let service = format!("portolan-{}", service.name());
        self.0.iter().filter(move |span| {
            let place = span.attribute("messaging.destination.name");
            let named = span.name.contains(part_of) || place.contains(part_of);
            span.service == service && span.kind == kind && named
        })
    }

    /// The one span of a service that `cause` led to directly.
    fn next(&self, cause: &Span, service: Service, kind: SpanKind, part_of: &str) -> &Span {
        let found: Vec<_> =
            self.all(service, kind, part_of).filter(|span| span.parent == cause.id).collect();
        let [span] = found[..] else {
            panic!(
                "{kind:?} {part_of} of {service:?} below {cause:#?}: {found:#?} in {:#?}",
                self.0
            )
        };
        span
    }

    /// The handling of the event that `cause` wrote: below the sending of it, or beside that.
    fn heard(&self, cause: &Span, sender: Service, topic: &str, by: Service) -> &Span {
        let sent: Vec<&Span> = self
            .all(sender, SpanKind::Producer, topic)
            .filter(|span| span.parent == cause.id)
            .collect();
        assert!(!sent.is_empty(), "{sender:?} sent nothing to {topic} because of {cause:#?}");
        let above =
            |span: &Span| span.parent == cause.id || sent.iter().any(|sent| sent.id == span.parent);
        let found: Vec<_> =
            self.all(by, SpanKind::Consumer, topic).filter(|span| above(span)).collect();
        let [span] = found[..] else {
            panic!("{by:?} did not handle what {cause:#?} sent to {topic} once: {found:#?}")
        };
        span
    }

    /// Every span but one has its parent here, and says of what kind it is.
    fn assert_connected(&self) {
        let ids: BTreeSet<&str> = self.0.iter().map(|span| span.id.as_str()).collect();
        let roots: Vec<&Span> = self.0.iter().filter(|span| span.parent.is_empty()).collect();
        assert_eq!(roots.len(), 1, "{roots:#?}");
        for span in &self.0 {
            let known = span.parent.is_empty() || ids.contains(span.parent.as_str());
            assert!(known, "nobody has seen the parent of {span:#?}");
            assert!(!matches!(span.kind, SpanKind::Internal | SpanKind::Unspecified), "{span:#?}");
        }
    }

    /// What the semantic conventions for messaging ask of a span.
    fn assert_messaging(&self) {
        for (kind, operation) in [(SpanKind::Producer, "send"), (SpanKind::Consumer, "process")] {
            for span in self.0.iter().filter(|span| span.kind == kind) {
                assert_eq!(span.attribute("messaging.system"), "kafka", "{span:#?}");
                assert_eq!(span.attribute("messaging.operation.type"), operation, "{span:#?}");
                let topic = span.attribute("messaging.destination.name");
                assert!(topic.contains("portolan."), "{span:#?}");
                assert!(span.name.starts_with(operation), "{span:#?}");
            }
        }
    }
}

#[tokio::test]
async fn an_order_is_one_trace_from_the_request_to_the_notification() {
    use Service::{Gateway, Inventory, Notification, Order, Payment, Psp};
    use SpanKind::{Client, Consumer, Producer, Server};

    let collector = Collector::start();
    let options = Options { collector: Some(collector.url().to_owned()), ..Options::default() };
    let shop = Shop::with(options).await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("TEAPOT", 1)], "tok_ok_1").await;
    alice.becomes(order, "COMPLETED").await;
    let timeline = alice.timeline(order).await;
    let id = timeline[0]["trace_id"].as_str().unwrap().to_owned();

    // The order service hears last that the notification was sent; the exporters are not in step.
    let trace = eventually(PATIENCE, "every span of the trace", async || {
        let trace = Trace(collector.trace(&id));
        let ends = trace.all(Order, Consumer, "portolan.notification.v1").count() == 1
            && trace.all(Gateway, Server, "").count() == 1
            && trace.all(Inventory, Producer, "").count() == 2
            && trace.all(Payment, Producer, "").count() == 2
            && trace.all(Notification, Producer, "").count() == 1
            && trace.all(Psp, Server, "").count() == 2;
        ends.then_some(trace)
    })
    .await;
    trace.assert_connected();
    trace.assert_messaging();

    let request = trace.all(Gateway, Server, "/v1/orders").next().unwrap();
    assert_eq!(request.parent, "", "the trace begins with the request");
    let placing = trace.next(request, Order, Server, "PlaceOrder");
    trace.next(placing, Inventory, Server, "Quote");
    let reserving = trace.heard(placing, Order, "portolan.order.v1", Inventory);
    let beginning = trace.heard(reserving, Inventory, "portolan.inventory.v1", Payment);
    let authorising = trace.next(beginning, Payment, Client, "provider authorize");
    trace.next(authorising, Psp, Server, "/v1/authorizations");
    let confirming = trace.heard(authorising, Payment, "portolan.payment.v1", Order);
    trace.heard(reserving, Inventory, "portolan.inventory.v1", Order);

    let committing = trace.heard(confirming, Order, "portolan.order.v1", Inventory);
    let ordered = trace.heard(confirming, Order, "portolan.order.v1", Payment);
    let capturing = trace.next(ordered, Payment, Client, "provider capture");
    trace.next(capturing, Psp, Server, "/v1/captures");
    // Whichever of the two comes last completes the order.
    let halves = [
        trace.heard(committing, Inventory, "portolan.inventory.v1", Order),
        trace.heard(capturing, Payment, "portolan.payment.v1", Order),
    ];
    let completes = |half: &&&Span| {
        trace.all(Order, Producer, "portolan.order.v1").any(|sent| sent.parent == half.id)
    };
    let completing: Vec<_> = halves.iter().filter(completes).collect();
    let [completing] = completing[..] else { panic!("{completing:#?} completed the order") };
    let telling = trace.heard(completing, Order, "portolan.order.v1", Notification);
    trace.heard(telling, Notification, "portolan.notification.v1", Order);
    shop.assert_sound().await;
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let shop = Shop::with(Options { collector: Some(nobody), ..Options::default() }).await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("CUP", 1)], "tok_ok_1").await;
    alice.becomes(order, "COMPLETED").await;
    for service in Service::ALL {
        // The gateway looks now and then whether the others are there.
        eventually(PATIENCE, "everybody is ready", async || {
            let (status, told) = shop.readiness(service, 0).await?;
            (status == 200 && told["status"] == "ready").then_some(())
        })
        .await;
    }
    shop.assert_sound().await;
}
