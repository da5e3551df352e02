//! What passes between client and agent, and how.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::agent::Agent;
use crate::client::{TestBody, full, send};
use crate::sidecar::{Place, Sidecar, USER};

const SOON: Duration = Duration::from_secs(10);

/// A request body that a test sends piece by piece.
fn piecewise() -> (mpsc::Sender<Bytes>, TestBody) {
    let (sender, mut receiver) = mpsc::channel(1);
    let frames = futures::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx).map(|chunk: Option<Bytes>| chunk.map(|chunk| Ok(Frame::data(chunk))))
    });
    (sender, BodyExt::boxed(StreamBody::new(frames)))
}

#[tokio::test]
async fn the_agent_gets_the_request_as_it_was_sent_but_for_the_headers_that_end_here() {
    let sidecar = Sidecar::start().await;
    let agent = Agent::start(&sidecar.place.socket());
    let mut headers = sidecar.place.user_headers(USER);
    for (name, value) in [
        ("authorization", "Bearer secret"),
        ("cookie", "session=1"),
        ("dexorder-user", "someone-else"),
        ("dexorder-access", "Full"),
        ("x-forwarded-for", "1.2.3.4"),
        ("forwarded", "for=1.2.3.4"),
        ("connection", "x-per-hop"),
        ("x-per-hop", "1"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    let body = r#"{"jsonrpc":"2.0",  "id":1,"method":"tools/list","_meta":{"x":1}}"#;
    let path = "/mcp?trace=1";
    let answer = send(sidecar.server.mcp_addr(), Method::POST, path, headers, full(body)).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("dexorder-reason"), None, "the agent spoke for the sidecar");
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(answer.json().await["result"], json!({}));
    let seen = agent.last_seen();
    assert_eq!((seen.method, seen.uri.as_str()), (Method::POST, path));
    assert_eq!(seen.body, body);
    let mut names: Vec<&str> = seen.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "content-length", "dexorder-user", "host", "mcp-protocol-version"]);
    assert_eq!(seen.headers["dexorder-user"], USER);
    assert_eq!(seen.headers["host"], "localhost");
}

#[tokio::test]
async fn get_and_delete_pass_and_nothing_else_does() {
    let sidecar = Sidecar::start().await;
    let agent = Agent::start(&sidecar.place.socket());
    for method in [Method::GET, Method::DELETE] {
        let headers = sidecar.place.user_headers(USER);
        assert_eq!(sidecar.request(method.clone(), headers, full("")).await.status, StatusCode::OK);
        assert_eq!(agent.last_seen().method, method);
    }
    for method in [Method::PUT, Method::HEAD, Method::OPTIONS] {
        let answer = sidecar.request(method, sidecar.place.user_headers(USER), full("")).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.header("allow"), Some("POST, GET, DELETE"));
    }
    for path in ["/", "/lifecycle/save", "/mcp/", "/mcp/../lifecycle/save", "/livez"] {
        let headers = sidecar.place.user_headers(USER);
        let answer =
            send(sidecar.server.mcp_addr(), Method::POST, path, headers, full("{\"id\":5}")).await.unwrap();
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.json().await["id"], 5);
    }
    assert_eq!(agent.saves(), 0);
    assert_eq!(agent.executed(), 2);
}

#[tokio::test]
async fn a_response_streams_chunk_by_chunk() {
    let sidecar = Sidecar::start().await;
    let agent = Agent::start(&sidecar.place.socket());
    let chunks = agent.stream();
    let mut answer = sidecar.call("stream").await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    for number in 0..5 {
        let sent = Bytes::from(format!("data: {number}\n\n"));
        chunks.send(sent.clone()).await.unwrap();
        // The next is sent only after this one has arrived.
        assert_eq!(timeout(SOON, answer.chunk()).await.unwrap().unwrap(), Some(sent));
    }
    drop(chunks);
    assert_eq!(answer.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_request_streams_chunk_by_chunk() {
    let sidecar = Sidecar::start().await;
    let agent = Agent::start(&sidecar.place.socket());
    let (pieces, body) = piecewise();
    let asking = sidecar.place.post(sidecar.server.mcp_addr(), "", body);
    let sending = async {
        let mut uploaded = agent.state.uploaded.lock().await;
        for number in 0..5 {
            let piece = Bytes::from(format!("piece {number} "));
            pieces.send(piece.clone()).await.unwrap();
            assert_eq!(timeout(SOON, uploaded.recv()).await.unwrap(), Some(piece));
        }
        drop(pieces);
    };
    let (answer, ()) = tokio::join!(asking, sending);
    assert_eq!(answer.unwrap().status, StatusCode::OK);
    assert_eq!(agent.last_seen().body, "piece 0 piece 1 piece 2 piece 3 piece 4 ");
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_cancels_the_agents_work() {
    let sidecar = Sidecar::start().await;
    let agent = Agent::start(&sidecar.place.socket());
    {
        let asking = sidecar.call("wait");
        tokio::select! {
            _ = asking => panic!("the call was answered"),
            () = async {
                agent.running(1).await;
                assert_eq!(sidecar.report().await["inFlight"], 1);
            } => {}
        }
    }
    agent.running(0).await;
    assert_eq!(sidecar.report().await["inFlight"], 0);
    let left = sidecar.metric("dexorder_sidecar_requests_total{outcome=\"ClientLeft\"}").await;
    assert_eq!(left, Some(1.0));
}

#[tokio::test]
async fn a_client_that_leaves_a_silent_stream_ends_it_at_the_agent() {
    let sidecar = Sidecar::start().await;
    let agent = Agent::start(&sidecar.place.socket());
    let chunks = agent.stream();
    let mut answer = sidecar.call("stream").await;
    chunks.send(Bytes::from_static(b"data: 1\n\n")).await.unwrap();
    answer.chunk().await.unwrap();
    agent.running(1).await;
    drop(answer);
    agent.running(0).await;
    assert_eq!(sidecar.report().await["inFlight"], 0);
}

#[tokio::test]
async fn requests_are_held_while_the_agent_starts_and_go_on_at_once() {
    let sidecar = Sidecar::start().await;
    let readyz = sidecar.probe("/readyz").await;
    assert_eq!(readyz.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(readyz.json().await["reason"], "AgentStarting");
    let calls = async { tokio::join!(sidecar.call(""), sidecar.call(""), sidecar.call("")) };
    let starting = async {
        while sidecar.report().await["inFlight"] != 3 {
            tokio::task::yield_now().await;
        }
        Agent::start(&sidecar.place.socket())
    };
    let ((one, two, three), agent) = tokio::join!(calls, starting);
    for answer in [one, two, three] {
        assert_eq!(answer.status, StatusCode::OK);
    }
    assert_eq!(agent.executed(), 3);
    assert_eq!(sidecar.probe("/readyz").await.status, StatusCode::OK);
    assert!(sidecar.metric("dexorder_sidecar_agent_start_seconds ").await.unwrap() > 0.0);
}

#[tokio::test]
async fn an_agent_that_says_it_is_not_ready_gets_no_request_yet() {
    let sidecar = Sidecar::start_with(Place::new(), &[("DEXORDER_HOLD_TIMEOUT", "300ms")]).await;
    let agent = Agent::start(&sidecar.place.socket());
    agent.state.ready.store(false, Ordering::SeqCst);
    sidecar.drain(json!({"mode": "IfIdle", "idleSinceTime": "2100-01-01T00:00:00Z"})).await;
    let answer = sidecar.call("").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let body = answer.json().await;
    assert_eq!((&body["id"], &body["error"]["data"]["reason"]), (&json!(42), &json!("AgentStarting")));
    assert_eq!(agent.executed(), 0);
    agent.state.ready.store(true, Ordering::SeqCst);
    assert_eq!(sidecar.call("").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_agent_that_dies_before_it_answers_gives_502_and_its_successor_serves() {
    let sidecar = Sidecar::start().await;
    let agent = Agent::start(&sidecar.place.socket());
    let dying = async {
        agent.running(1).await;
        agent.kill();
    };
    let (answer, ()) = tokio::join!(sidecar.call("wait"), dying);
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.header("retry-after"), None);
    let body = answer.json().await;
    assert_eq!((&body["id"], &body["error"]["data"]["reason"]), (&json!(42), &json!("AgentUnavailable")));
    let readyz = sidecar.probe("/readyz").await;
    assert_eq!(readyz.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(readyz.json().await["reason"], "AgentUnavailable");
    // The next request finds a socket that nobody listens at, and is held until the agent is back.
    let restarting = async {
        while sidecar.report().await["inFlight"] != 1 {
            tokio::task::yield_now().await;
        }
        Agent::start(&sidecar.place.socket())
    };
    let (answer, next) = tokio::join!(sidecar.call(""), restarting);
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(next.executed(), 1);
}

#[tokio::test]
async fn an_agent_that_restarts_between_two_requests_costs_no_error() {
    let sidecar = Sidecar::start().await;
    for _ in 0..3 {
        let agent = Agent::start(&sidecar.place.socket());
        for _ in 0..3 {
            assert_eq!(sidecar.call("").await.status, StatusCode::OK);
        }
        agent.kill();
    }
}

#[tokio::test]
async fn an_agent_that_dies_in_mid_stream_leaves_a_visibly_broken_response() {
    let sidecar = Sidecar::start().await;
    let agent = Agent::start(&sidecar.place.socket());
    let chunks = agent.stream();
    let mut answer = sidecar.call("stream").await;
    chunks.send(Bytes::from_static(b"data: 1\n\n")).await.unwrap();
    answer.chunk().await.unwrap();
    agent.kill();
    assert!(timeout(SOON, answer.chunk()).await.unwrap().is_err());
    assert_eq!(sidecar.report().await["inFlight"], 0);
}

#[tokio::test]
async fn a_rotated_key_is_taken_up_while_it_runs() {
    let sidecar = Sidecar::start().await;
    let _agent = Agent::start(&sidecar.place.socket());
    let next = Place::new();
    let headers = next.user_headers(USER);
    let refused = sidecar.request(Method::POST, headers.clone(), full("{}")).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    std::fs::write(sidecar.place.keys_file(), next.key_set().to_json().unwrap()).unwrap();
    timeout(SOON, async {
        while sidecar.request(Method::POST, headers.clone(), full("{}")).await.status != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the new key was never taken up");
    // The old key ends with it, even for a token that has been used.
    let old = sidecar.request(Method::POST, sidecar.place.user_headers(USER), full("{}")).await;
    assert_eq!(old.status, StatusCode::UNAUTHORIZED);
}
