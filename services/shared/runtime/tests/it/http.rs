use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::ConnectInfo,
    routing::{get, post},
};
use http::{Request, Version};
use portolan_runtime::{Context, Drained, grpc, http as server, http_client, metrics};
use portolan_testkit::{PATIENCE, context, eventually};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, Semaphore},
};
use tonic::body::Body;
use tower::ServiceExt as _;

fn client() -> reqwest::Client {
    http_client(PATIENCE).unwrap()
}

async fn serve(router: Router) -> (Context, String) {
    let ctx = context();
    server::serve(&ctx, router).await.unwrap();
    let url = format!("http://{}/", ctx.local_addr().unwrap());
    (ctx, url)
}

#[tokio::test]
async fn handlers_know_the_peer() {
    let peer = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string();
    let (_ctx, url) = serve(Router::new().route("/", get(peer))).await;
    assert_eq!(client().get(url).send().await.unwrap().text().await.unwrap(), "127.0.0.1");
}

#[tokio::test]
async fn http_2_is_spoken_without_tls() {
    let (ctx, url) = serve(Router::new().route("/", get(async || "hello"))).await;
    // The transport of gRPC speaks nothing else.
    let client = grpc::channel(&ctx, &url, "test").unwrap();
    let request = Request::get(&url).body(Body::empty()).unwrap();
    let response = client.oneshot(request).await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (Version::HTTP_2, 200));
}

#[tokio::test]
async fn a_panicking_handler_harms_its_own_connection_only() {
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/panic", get(async || -> () { panic!("oh") }));
    let (_ctx, url) = serve(router).await;
    assert!(client().get(format!("{url}panic")).send().await.is_err());
    assert_eq!(client().get(url).send().await.unwrap().text().await.unwrap(), "hello");
}

#[tokio::test]
async fn after_the_soft_token_running_requests_end_and_no_new_ones_begin() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (entered, release) = (entered.clone(), release.clone());
        async move || {
            entered.notify_one();
            release.notified().await;
            "done"
        }
    };
    let (ctx, url) = serve(Router::new().route("/", get(slow))).await;
    let running = tokio::task::JoinSet::from_iter([client().get(&url).send()]);
    entered.notified().await;
    ctx.tasks.soft().cancel();
    let address = ctx.local_addr().unwrap();
    let refused = async || TcpStream::connect(address).await.is_err().then_some(());
    eventually(PATIENCE, "new connections are refused", refused).await;
    release.notify_one();
    let answers = running.join_all().await;
    assert_eq!(answers.into_iter().next().unwrap().unwrap().text().await.unwrap(), "done");
    assert_eq!(ctx.tasks.shutdown(PATIENCE).await, Drained::InTime);
}

#[tokio::test]
async fn a_request_that_waits_to_be_accepted_at_the_soft_token_is_answered() {
    let (ctx, _url) = serve(Router::new().route("/", get(async || "hello"))).await;
    // While this thread waits, nobody accepts anything.
    let mut stream = std::net::TcpStream::connect(ctx.local_addr().unwrap()).unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    std::io::Write::write_all(&mut stream, request).unwrap();
    ctx.tasks.soft().cancel();
    stream.set_nonblocking(true).unwrap();
    let mut answer = String::new();
    TcpStream::from_std(stream).unwrap().read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    assert_eq!(ctx.tasks.shutdown(PATIENCE).await, Drained::InTime);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_speak_is_hung_up_on() {
    let (ctx, _url) = serve(Router::new()).await;
    // The last two begin like HTTP/2 without getting so far that it is certain.
    for said in [&b""[..], b"GET / HTTP/1.1\r\nHo", b"P", b"PRI * HT"] {
        let mut stream = TcpStream::connect(ctx.local_addr().unwrap()).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        // The paused clock jumps to the time-out; without one this waits for ever.
        let read = tokio::time::timeout(Duration::from_mins(1), stream.read_to_end(&mut answer));
        assert!(matches!(read.await, Ok(Ok(_))), "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_speaks_slowly_does_not_get_more_time_with_every_word() {
    let (ctx, _url) = serve(Router::new()).await;
    let mut stream = TcpStream::connect(ctx.local_addr().unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let (mut answers, mut words) = stream.split();
    let speaking = async {
        while words.write_all(b"X-Word: x\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        // Whether it ends or is reset depends on what was on its way.
        _ = answers.read_to_end(&mut answer) => {}
        () = speaking => {}
        () = tokio::time::sleep(Duration::from_mins(1)) => panic!("it is still listened to"),
    }
}

/// The status of the answer to a request with such headers, with HTTP/1.1 and with HTTP/2.
async fn statuses(headers: &[(String, String)]) -> [u16; 2] {
    let (ctx, url) = serve(Router::new().route("/", get(async || "hello"))).await;
    let mut text = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".to_owned();
    let mut request = Request::get(&url);
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
        request = request.header(name, value);
    }
    text.push_str("\r\n");
    let mut stream = TcpStream::connect(ctx.local_addr().unwrap()).await.unwrap();
    // It may be refused before it is read to its end.
    let _ = stream.write_all(text.as_bytes()).await;
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.unwrap();
    let old = std::str::from_utf8(&line).unwrap().strip_prefix("HTTP/1.1 ").unwrap();
    let client = grpc::channel(&ctx, &url, "test").unwrap();
    let new = client.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    [old.parse().unwrap(), new.status().as_u16()]
}

#[tokio::test]
async fn the_head_of_a_request_has_its_limits_with_both_protocols() {
    let long = |bytes: usize| vec![("x-long".to_owned(), "x".repeat(bytes))];
    assert_eq!(statuses(&long(30_000)).await, [200, 200]);
    assert_eq!(statuses(&long(40_000)).await, [431, 431]);
    let many = |count: usize| -> Vec<_> {
        (0..count).map(|number| (format!("x-{number}"), String::new())).collect()
    };
    assert_eq!(statuses(&many(90)).await, [200, 200]);
    // HTTP/2 limits their size alone, of which each takes 32 bytes beside its own.
    assert_eq!(statuses(&many(101)).await[0], 431);
    assert_eq!(statuses(&many(1_000)).await[1], 431);
}

#[tokio::test]
async fn a_request_that_arrives_in_pieces_is_answered() {
    let (ctx, _url) = serve(Router::new().route("/", post(async |body: String| body))).await;
    let mut stream = TcpStream::connect(ctx.local_addr().unwrap()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    // The first piece could become HTTP/2.
    for piece in
        ["P", "O", "ST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", "Content-Length: 5"]
    {
        stream.write_all(piece.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.write_all(b"\r\n\r\nhello").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn a_full_port_takes_no_more_connections_until_others_end() {
    metrics::install("test").unwrap();
    let ctx = context().with_max_connections(2);
    // All have connected and asked before the first is accepted.
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(ctx.local_addr().unwrap()).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        clients.push(stream);
    }
    let release = Arc::new(Semaphore::new(0));
    let [inside, most] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let hello = {
        let (release, inside, most) = (release.clone(), inside.clone(), most.clone());
        async move || {
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            release.acquire().await.unwrap().forget();
            inside.fetch_sub(1, Ordering::SeqCst);
            "hello"
        }
    };
    server::serve(&ctx, Router::new().route("/", get(hello))).await.unwrap();
    let full = async || (inside.load(Ordering::SeqCst) == 2).then_some(());
    eventually(PATIENCE, "two requests are under way", full).await;
    release.add_permits(clients.len());
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert!(metrics::render().contains("portolan_connections_full_total{port=\"http\"}"));
}

#[tokio::test]
async fn http_2_connections_of_a_public_port_grow_old_and_no_answer_is_cut_off() {
    let release = Arc::new(Notify::new());
    let released = release.clone();
    let slow = async move || {
        released.notified().await;
        "done"
    };
    let peer = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| [("peer", peer.to_string())];
    let ctx = context().with_max_connection_age(Duration::from_millis(200));
    let router = Router::new().route("/", get(peer)).route("/slow", get(slow));
    server::serve(&ctx, router).await.unwrap();
    let url = format!("http://{}/", ctx.local_addr().unwrap());
    let client = grpc::channel(&ctx, &url, "test").unwrap();
    let ask = |path: &str| {
        client.clone().oneshot(Request::get(format!("{url}{path}")).body(Body::empty()).unwrap())
    };
    let mut seen = BTreeSet::new();
    let others = async {
        let four = async || {
            seen.insert(ask("").await.unwrap().headers()["peer"].clone());
            // The first is more than twice as old by then as it may be.
            (seen.len() > 3).then_some(())
        };
        eventually(PATIENCE, "three connections came after the first", four).await;
        release.notify_one();
    };
    let (answer, ()) = tokio::join!(ask("slow"), others);
    assert_eq!(answer.unwrap().status(), 200);
}

#[tokio::test]
async fn the_port_can_be_served_once() {
    let (ctx, _url) = serve(Router::new()).await;
    assert!(server::serve(&ctx, Router::new()).await.is_err());
}
