//! Handshakes that take longer than somebody has time for.

use http::Request;
use portolan_testkit::{TestMesh, context};
use tonic::{Code, body::Body};
use tower::ServiceExt as _;

use crate::mesh::{Gate, HELLO, call, inventory};

#[tokio::test]
async fn a_handshake_outlives_the_callers_who_began_it_and_serves_those_who_come_later() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let outside = context();
    let gate = Gate::before(&outside, &server).await;
    let client = gate.client(&mesh);
    let impatient = || async {
        let request = Request::post(format!("/{HELLO}")).header("grpc-timeout", "20m");
        let answer = client.clone().oneshot(request.body(Body::empty()).unwrap()).await;
        answer.unwrap_err().code()
    };
    for _ in 0..3 {
        let (one, other) = tokio::join!(impatient(), impatient());
        assert_eq!([one, other], [Code::DeadlineExceeded; 2]);
    }
    gate.answered().await;
    gate.open();
    call(&client, HELLO).await.unwrap();
    assert_eq!(gate.connections(), 1);
}
