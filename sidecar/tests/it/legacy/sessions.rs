//! What a session is worth: at which process, for how long, and what else is not one.

use http::{Method, StatusCode};
use serde_json::json;

use super::newest::Newest;
use super::{Client, all_capabilities, started, text};
use crate::client::full;
use crate::sidecar::{Sidecar, USER};

#[tokio::test]
async fn a_session_is_as_good_at_the_next_process() {
    let (first, agent) = started().await;
    let session = Client::connect(&first, &all_capabilities()).await.session;
    agent.check();
    drop(agent);
    let place = {
        let Sidecar { place, server } = first;
        server.stop().await;
        place
    };
    let sidecar = Sidecar::start_with(place, &[]).await;
    let agent = Newest::start(&sidecar.place.socket());
    sidecar.ready().await;
    let client = Client { sidecar: &sidecar, revision: "2025-11-25", session };
    let mut events = client.stream(5, "greet").await;
    let question = events.message().await;
    client.answer(&question, json!({"action": "accept", "content": {"name": "Ada"}})).await;
    assert_eq!(text(&events.message().await), "Hello, Ada");
    assert_eq!(agent.methods()[0], "tools/list", "nobody introduced the client again");
    agent.check();
}

#[tokio::test]
async fn what_is_no_session_is_not_found() {
    let (sidecar, agent) = started().await;
    let session = Client::connect(&sidecar, &json!({})).await.session.unwrap();
    for made_up in ["", "x", "1", &session[1..], &format!("2{}", &session[1..]), &"A".repeat(2000)] {
        let client = Client { sidecar: &sidecar, revision: "2025-11-25", session: Some(made_up.to_owned()) };
        for method in [Method::POST, Method::GET, Method::DELETE] {
            let ping = json!({"jsonrpc": "2.0", "id": 3, "method": "ping"}).to_string();
            let body = if method == Method::POST { full(ping) } else { full("") };
            let answer = sidecar.request(method.clone(), client.headers(), body).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {made_up}");
            assert_eq!(answer.json().await["error"]["data"]["reason"], "NotFound");
        }
    }
    assert_eq!(agent.methods(), ["server/discover"]);
}

#[tokio::test]
async fn a_session_that_its_client_ends_is_not_found_and_nothing_of_it_runs_on() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &json!({})).await;
    let other = Client::connect(&sidecar, &json!({})).await;
    let mut listening = client.listen().await;
    agent.running(1).await;
    let waiting = client.send(5, "tools/call", json!({"name": "wait"}));
    let ending = async {
        agent.running(2).await;
        let ended = sidecar.request(Method::DELETE, client.headers(), full("")).await;
        assert_eq!(ended.status, StatusCode::NO_CONTENT);
    };
    let (answer, ()) = tokio::join!(waiting, ending);
    assert_eq!(answer.text().await, "");
    agent.running(0).await;
    assert_eq!(listening.next().await, None);
    assert_eq!(client.send(1, "ping", json!({})).await.status, StatusCode::NOT_FOUND);
    assert_eq!(other.result("ping", json!({})).await, json!({}));
    let again = sidecar.request(Method::DELETE, client.headers(), full("")).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn another_users_request_with_a_session_is_refused_before_it_is_looked_at() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &json!({})).await;
    let mut headers = sidecar.place.bare_headers("someone-else");
    headers.insert("mcp-session-id", client.session.clone().unwrap().parse().unwrap());
    let ping = json!({"jsonrpc": "2.0", "id": 3, "method": "ping"}).to_string();
    let answer = sidecar.request(Method::POST, headers, full(ping)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(USER, "trader1");
    agent.check();
}
