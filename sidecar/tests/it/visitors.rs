//! Auth mode Public: anonymous sessions, what they may do, and how much.

use std::sync::atomic::Ordering;

use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use crate::agent::{Agent, DO};
use crate::client::{Answer, full};
use crate::sidecar::{Place, Sidecar, USER};

const VISITOR: &str = "anonymous:6f1c";

async fn shared(over: &[(&str, &str)]) -> (Sidecar, Agent) {
    let public = [("DEXORDER_AUTH_MODE", "Public"), ("DEXORDER_ACCESS", "ReadOnly")];
    let sidecar = Sidecar::start_with(Place::new(), &[&public, over].concat()).await;
    let agent = Agent::start(&sidecar.place.socket());
    sidecar.ready().await;
    (sidecar, agent)
}

fn message(method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string()
}

/// A request of a visitor, with a session or without.
async fn visit(sidecar: &Sidecar, session: Option<&str>, body: &str) -> Answer {
    let mut headers = sidecar.place.user_headers("anonymous");
    if let Some(session) = session {
        headers.insert("dexorder-session", session.parse().unwrap());
    }
    sidecar.request(Method::POST, headers, full(body.to_owned())).await
}

async fn new_session(sidecar: &Sidecar) -> String {
    let answer = visit(sidecar, None, &message("resources/list", &json!({}))).await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.header("dexorder-session").expect("no session was made").to_owned()
}

async fn reason(answer: Answer) -> (StatusCode, String) {
    let status = answer.status;
    let header = answer.header("dexorder-reason").unwrap_or_default().to_owned();
    let body = answer.json().await;
    assert_eq!(body["error"]["data"]["reason"], header.as_str(), "{body}");
    (status, header)
}

#[tokio::test]
async fn a_shared_workspace_is_for_all_and_a_visitors_own_for_that_visitor() {
    let body = message("resources/list", &json!({}));
    for (owner, good, bad) in [
        (USER, "anonymous", [USER, VISITOR, "gateway"]),
        (VISITOR, VISITOR, ["anonymous", "anonymous:other", "gateway"]),
    ] {
        let (sidecar, agent) = shared(&[("DEXORDER_USER_ID", owner)]).await;
        let by = |subject: &str| sidecar.place.user_headers(subject);
        for subject in bad {
            let answer = sidecar.request(Method::POST, by(subject), full(body.clone())).await;
            assert_eq!(
                reason(answer).await,
                (StatusCode::FORBIDDEN, "WrongUser".to_owned()),
                "{owner} {subject}"
            );
        }
        let answer = sidecar.request(Method::POST, HeaderMap::new(), full(body.clone())).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "without the gateway");
        assert_eq!(agent.executed(), 0);
        let answer = sidecar.request(Method::POST, by(good), full(body.clone())).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(agent.last_seen().headers["dexorder-user"], good);
    }
}

#[tokio::test]
async fn a_session_is_made_comes_back_and_can_not_be_forged() {
    let (sidecar, agent) = shared(&[]).await;
    let body = message("resources/read", &json!({"uri": "context://user-profile"}));
    let session = new_session(&sidecar).await;
    assert_eq!(sidecar.metric("dexorder_sidecar_public_sessions ").await, Some(0.0), "nobody came back yet");
    let answer = visit(&sidecar, Some(&session), &body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.header("dexorder-session").is_some(), "each use prolongs it");
    assert!(!agent.last_seen().headers.contains_key("dexorder-session"), "the agent got the session");
    assert_eq!(sidecar.metric("dexorder_sidecar_public_sessions ").await, Some(1.0));

    let (elsewhere, _agent) = shared(&[]).await;
    let foreign = new_session(&elsewhere).await;
    let mut changed = session.clone().into_bytes();
    changed[3] = if changed[3] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    let before = agent.executed();
    for (case, session) in
        [("foreign", foreign.as_str()), ("changed", &changed), ("made up", "abc"), ("empty", "")]
    {
        let answer = visit(&sidecar, Some(session), &body).await;
        assert_eq!(
            reason(answer).await,
            (StatusCode::UNAUTHORIZED, "CredentialRefused".to_owned()),
            "{case}"
        );
    }
    let mut twice = sidecar.place.user_headers("anonymous");
    twice.append("dexorder-session", session.parse().unwrap());
    twice.append("dexorder-session", session.parse().unwrap());
    assert_eq!(sidecar.request(Method::POST, twice, full(body)).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(agent.executed(), before);
}

#[tokio::test]
async fn visitors_read_and_call_what_is_marked_read_only_and_nothing_else() {
    let (sidecar, agent) = shared(&[]).await;
    let session = new_session(&sidecar).await;
    let none = json!({});
    let call = |name: &str| message("tools/call", &json!({"name": name, "arguments": {}}));
    for body in [
        message("initialize", &none),
        message("ping", &none),
        message("server/discover", &none),
        message("tools/list", &none),
        message("resources/list", &none),
        message("resources/templates/list", &none),
        message("prompts/get", &json!({"name": "x"})),
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned(),
        call("show"),
    ] {
        let before = agent.executed();
        assert_eq!(visit(&sidecar, Some(&session), &body).await.status, StatusCode::OK, "{body}");
        assert_eq!(agent.executed(), before + 1, "{body}");
        assert_eq!(agent.last_seen().body, body, "what was checked is what was sent");
    }
    let before = agent.executed();
    for body in [
        call("delete"),
        call("plain"),
        call("unheard-of"),
        message("completion/complete", &none),
        r#"{"jsonrpc":"2.0","id":7}"#.to_owned(),
    ] {
        let answer = visit(&sidecar, Some(&session), &body).await;
        assert_eq!(reason(answer).await, (StatusCode::FORBIDDEN, "NotForVisitors".to_owned()), "{body}");
    }
    for body in [
        format!("[{}]", call("show")),
        r#"{"method":"tools/list","method":"tools/call","params":{"name":"delete"}}"#.to_owned(),
        "no JSON".to_owned(),
    ] {
        let answer = visit(&sidecar, Some(&session), &body).await;
        assert_eq!(reason(answer).await, (StatusCode::BAD_REQUEST, "InvalidRequest".to_owned()), "{body}");
    }
    let large = message("resources/read", &json!({"uri": "x".repeat(300 * 1024)}));
    let answer = visit(&sidecar, Some(&session), &large).await;
    assert_eq!(reason(answer).await, (StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLarge".to_owned()));
    assert_eq!(agent.executed(), before);
}

#[tokio::test]
async fn the_list_of_tools_is_kept_and_a_tool_that_is_not_on_it_has_it_fetched_again_at_most_now_and_then() {
    let (sidecar, agent) = shared(&[]).await;
    let call = |name: &str| message("tools/call", &json!({"name": name}));
    for _ in 0..3 {
        assert_eq!(visit(&sidecar, None, &call("show")).await.status, StatusCode::OK);
        assert_eq!(visit(&sidecar, None, &call("unheard-of")).await.status, StatusCode::FORBIDDEN);
    }
    // One list has a page for each of the three tools.
    assert_eq!(agent.state.listed.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_session_that_asks_too_often_is_told_when_to_come_back() {
    let (sidecar, agent) = shared(&[("DEXORDER_PUBLIC_SESSION_CALLS_PER_MINUTE", "3")]).await;
    let body = message("ping", &json!({}));
    let (one, two) = (new_session(&sidecar).await, new_session(&sidecar).await);
    for _ in 0..3 {
        assert_eq!(visit(&sidecar, Some(&one), &body).await.status, StatusCode::OK);
    }
    let before = agent.executed();
    let answer = visit(&sidecar, Some(&one), &body).await;
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=21).contains(&wait), "{wait}");
    assert_eq!(reason(answer).await, (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests".to_owned()));
    assert_eq!(agent.executed(), before);
    assert_eq!(
        visit(&sidecar, Some(&two), &body).await.status,
        StatusCode::OK,
        "another's share is another's"
    );
    let refused = sidecar.metric("dexorder_sidecar_requests_total{outcome=\"TooManyRequests\"}").await;
    assert_eq!(refused, Some(1.0));
}

#[tokio::test]
async fn all_visitors_together_have_a_share_of_which_newcomers_take_half() {
    let (sidecar, _agent) = shared(&[("DEXORDER_PUBLIC_CALLS_PER_MINUTE", "8")]).await;
    let body = message("ping", &json!({}));
    let session = new_session(&sidecar).await;
    let mut let_in = 0;
    for _ in 0..10 {
        let_in += u32::from(visit(&sidecar, None, &body).await.status == StatusCode::OK);
    }
    assert_eq!(let_in, 3);
    for _ in 0..4 {
        assert_eq!(visit(&sidecar, Some(&session), &body).await.status, StatusCode::OK);
    }
    assert_eq!(visit(&sidecar, Some(&session), &body).await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn sessions_and_requests_at_once_are_bounded() {
    let bounds = [("DEXORDER_PUBLIC_SESSIONS", "1"), ("DEXORDER_PUBLIC_CONCURRENT", "1")];
    let (sidecar, agent) = shared(&bounds).await;
    let body = message("ping", &json!({}));
    let (one, two) = (new_session(&sidecar).await, new_session(&sidecar).await);
    assert_eq!(visit(&sidecar, Some(&one), &body).await.status, StatusCode::OK);
    let refused = visit(&sidecar, Some(&two), &body).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.header("retry-after").is_some());

    let mut headers = sidecar.place.user_headers("anonymous");
    headers.insert(DO, "wait".parse().unwrap());
    let waiting = sidecar.request(Method::POST, headers, full(body.clone()));
    let meanwhile = async {
        agent.running(1).await;
        assert_eq!(visit(&sidecar, Some(&one), &body).await.status, StatusCode::TOO_MANY_REQUESTS);
        agent.state.release.add_permits(1);
    };
    let (answer, ()) = tokio::join!(waiting, meanwhile);
    assert_eq!(answer.status, StatusCode::OK);
    answer.text().await;
    let chunks = agent.stream();
    let mut headers = sidecar.place.user_headers("anonymous");
    headers.insert(DO, "stream".parse().unwrap());
    let stream = sidecar.request(Method::GET, headers.clone(), full("")).await;
    assert_eq!(stream.status, StatusCode::OK);
    let second = sidecar.request(Method::GET, headers, full("")).await;
    assert_eq!(second.status, StatusCode::TOO_MANY_REQUESTS, "a stream has places of its own");
    let again = async {
        while visit(&sidecar, Some(&one), &body).await.status != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), again)
        .await
        .expect("its place was never free again");
    drop((stream, chunks));
}

#[tokio::test]
async fn a_stream_that_listens_ends_with_its_session_and_a_call_does_not() {
    let (sidecar, agent) = shared(&[("DEXORDER_SESSION_TTL", "1s")]).await;
    let chunks = agent.stream();
    let mut headers = sidecar.place.user_headers("anonymous");
    headers.insert(DO, "stream".parse().unwrap());
    let mut listens = sidecar.request(Method::GET, headers, full("")).await;
    assert_eq!(listens.status, StatusCode::OK);
    let mut headers = sidecar.place.user_headers("anonymous");
    headers.insert(DO, "wait".parse().unwrap());
    let call = sidecar.request(Method::POST, headers, full(message("ping", &json!({}))));
    let meanwhile = async {
        agent.running(1).await;
        let end = async { while listens.chunk().await.unwrap().is_some() {} };
        tokio::time::timeout(std::time::Duration::from_secs(10), end)
            .await
            .expect("the stream outlived its session");
        agent.state.release.add_permits(1);
    };
    let (answer, ()) = tokio::join!(call, meanwhile);
    assert_eq!(answer.status, StatusCode::OK, "what runs is let end");
    drop(chunks);
}

#[tokio::test]
async fn a_visitor_who_is_refused_does_not_keep_the_workspace_awake() {
    let (sidecar, _agent) = shared(&[]).await;
    let before = sidecar.report().await["lastActivityTime"].clone();
    visit(&sidecar, Some("forged"), &message("ping", &json!({}))).await;
    visit(&sidecar, None, &message("tools/call", &json!({"name": "delete"}))).await;
    assert_eq!(sidecar.report().await["lastActivityTime"], before);
    visit(&sidecar, None, &message("ping", &json!({}))).await;
    assert_ne!(sidecar.report().await["lastActivityTime"], before);
}
