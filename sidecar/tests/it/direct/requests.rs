//! Token and proof of each request.

use dexorder_protocol::direct::{ClientKey, proof};
use http::{Method, StatusCode};

use super::{Client, PASSWORD, at, by_gateway, headers, is, log_in, password, refusal, with_passwords};
use crate::agent::Agent;
use crate::sidecar::now;

const BODY: &str = r#"{"jsonrpc":"2.0","id":42,"method":"tools/call"}"#;

#[tokio::test]
async fn each_request_needs_the_token_and_a_proof_of_its_own() {
    let (sidecar, agent) = with_passwords(&[]).await;
    let client = log_in(&sidecar, password(PASSWORD)).await;
    let other = log_in(&sidecar, password(PASSWORD)).await;
    let post = Method::POST;
    let signed = |key: &ClientKey, method: &str, token: &str, run: &str, body: &str, at: i64| {
        proof::sign(key, &proof::Request { method, token, run }, body.as_bytes(), at).unwrap()
    };
    let good = || client.proof(&post, BODY);
    let (token, run) = (client.token.as_str(), client.run.as_str());
    let mut bare = by_gateway(&sidecar);
    bare.insert("dexorder-proof", good().parse().unwrap());
    let mut without_proof = headers(&sidecar, token, "x");
    without_proof.remove("dexorder-proof");
    let mut two_proofs = headers(&sidecar, token, &good());
    two_proofs.append("dexorder-proof", good().parse().unwrap());
    let mut two_tokens = headers(&sidecar, token, &good());
    two_tokens.append("authorization", format!("Bearer {token}").parse().unwrap());
    let mut basic = headers(&sidecar, token, &good());
    basic.insert("authorization", format!("Basic {token}").parse().unwrap());
    let stranger = ClientKey::generate().unwrap();
    for (case, headers) in [
        ("no token", bare),
        ("no proof", without_proof),
        ("two proofs", two_proofs),
        ("two tokens", two_tokens),
        ("another scheme", basic),
        ("no JWT", headers(&sidecar, "abc", &good())),
        ("another client's token", headers(&sidecar, &other.token, &good())),
        ("a stranger's proof", headers(&sidecar, token, &signed(&stranger, "POST", token, run, BODY, now()))),
        ("another client's proof", headers(&sidecar, token, &other.proof(&post, BODY))),
        ("another method", headers(&sidecar, token, &signed(&client.key, "GET", token, run, BODY, now()))),
        ("another token", headers(&sidecar, token, &signed(&client.key, "POST", "x", run, BODY, now()))),
        ("another run", headers(&sidecar, token, &signed(&client.key, "POST", token, "x", BODY, now()))),
        ("another body", headers(&sidecar, token, &signed(&client.key, "POST", token, run, "{}", now()))),
        (
            "an old proof",
            headers(&sidecar, token, &signed(&client.key, "POST", token, run, BODY, now() - 90)),
        ),
        (
            "from the future",
            headers(&sidecar, token, &signed(&client.key, "POST", token, run, BODY, now() + 600)),
        ),
        ("no proof at all", headers(&sidecar, token, "a.b.c")),
    ] {
        let answer = at(&sidecar, Method::POST, "/mcp", headers, BODY).await;
        assert_eq!(refusal(answer).await, is(401, "CredentialRefused"), "{case}");
    }
    assert_eq!(agent.executed(), 0);
    let once = headers(&sidecar, token, &good());
    assert_eq!(at(&sidecar, Method::POST, "/mcp", once.clone(), BODY).await.status, StatusCode::OK);
    let again = at(&sidecar, Method::POST, "/mcp", once, BODY).await;
    assert_eq!(refusal(again).await, is(401, "Replayed"));
    assert_eq!(agent.executed(), 1);
}

#[tokio::test]
async fn a_refusal_tells_the_run_that_the_next_proof_must_name() {
    let (sidecar, _agent) = with_passwords(&[]).await;
    let client = log_in(&sidecar, password(PASSWORD)).await;
    let run = client.run.clone();
    let early = Client { run: "of-yesterday".to_owned(), ..client };
    let refused = early.call(&sidecar, BODY).await.json().await;
    assert_eq!(refused["error"]["data"]["run"], run.as_str());
    assert_eq!(refused["id"], 42);
    let client = Client { run, ..early };
    assert_eq!(client.call(&sidecar, BODY).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_stream_and_the_end_of_a_session_need_a_proof_too() {
    let (sidecar, agent) = with_passwords(&[]).await;
    let client = log_in(&sidecar, password(PASSWORD)).await;
    for method in [Method::GET, Method::DELETE] {
        let headers = client.headers(&sidecar, &method, "");
        assert_eq!(at(&sidecar, method.clone(), "/mcp", headers.clone(), "").await.status, StatusCode::OK);
        assert_eq!(refusal(at(&sidecar, method, "/mcp", headers, "").await).await, is(401, "Replayed"));
    }
    assert_eq!(agent.executed(), 2);
}

#[tokio::test]
async fn the_proof_of_a_request_that_was_not_begun_may_come_again() {
    let (sidecar, agent) = with_passwords(&[("DEXORDER_HOLD_TIMEOUT", "300ms")]).await;
    let client = log_in(&sidecar, password(PASSWORD)).await;
    agent.kill();
    let headers = client.headers(&sidecar, &Method::POST, BODY);
    loop {
        // The first may find a connection that is just breaking, and nobody knows what it did.
        let other = client.headers(&sidecar, &Method::POST, "{}");
        let answer = at(&sidecar, Method::POST, "/mcp", other, "{}").await;
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            break;
        }
    }
    let answer = at(&sidecar, Method::POST, "/mcp", headers.clone(), BODY).await;
    assert_eq!(refusal(answer).await, is(503, "AgentStarting"));
    let agent = Agent::start(&sidecar.place.socket());
    sidecar.ready().await;
    assert_eq!(at(&sidecar, Method::POST, "/mcp", headers.clone(), BODY).await.status, StatusCode::OK);
    assert_eq!(refusal(at(&sidecar, Method::POST, "/mcp", headers, BODY).await).await, is(401, "Replayed"));
    assert_eq!(agent.executed(), 1);
}
