//! Handshakes that take longer than somebody has time for.

use std::time::Duration;

use http::Request;
use portolan_runtime::Drained;
use portolan_testkit::{PATIENCE, TestMesh, context};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
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

#[tokio::test]
async fn a_call_on_a_connection_that_began_before_the_server_stops_is_answered() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let outside = context();
    let gate = Gate::before(&outside, &server).await;
    let client = gate.client(&mesh);
    let stopping = async {
        gate.answered().await;
        server.tasks.soft().cancel();
        // Whoever would drop the handshake has done so by then.
        tokio::task::yield_now().await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(call(&client, HELLO), stopping);
    answer.unwrap();
    assert_eq!(server.tasks.shutdown(PATIENCE).await, Drained::InTime);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_speaks_tls_is_let_go() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let mut stream = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
    // The paused clock jumps to the time-out; without one this waits for ever.
    let read = timeout(Duration::from_mins(1), stream.read(&mut [0; 1])).await;
    assert!(matches!(read, Ok(Ok(0))), "{read:?}");
}
