//! Signing keys that are rotated: what clients hold stays good.

use dexorder_protocol::SigningKey;
use http::Method;
use serde_json::json;

use crate::support::{call, prepared_world};

#[tokio::test]
async fn what_was_sealed_under_a_trusted_key_stays_good_in_the_next_process() {
    let (first, second) = (SigningKey::generate_pem().unwrap(), SigningKey::generate_pem().unwrap());
    let settings = "visitors: {enabled: true}\nwake: {timeout: 1s}";
    let before = prepared_world(settings, |files| {
        std::fs::write(files.join("signing/next.pem"), &second).unwrap();
        std::fs::write(files.join("signing/key.pem"), &first).unwrap();
    })
    .await;
    let made = before.client.send(Method::POST, "/public/visitors", &[], "").await.json();
    let credential = made["visitor"].as_str().unwrap();
    for (key, others, status) in [
        (&second, vec![("previous.pem", &first)], 503),
        (&first, vec![("next.pem", &second)], 503),
        (&second, vec![], 401),
    ] {
        let after = prepared_world(settings, |files| {
            std::fs::write(files.join("signing/key.pem"), key).unwrap();
            for (name, pem) in others {
                std::fs::write(files.join("signing").join(name), pem).unwrap();
            }
        })
        .await;
        after.until_ready().await;
        let headers = [
            ("dexorder-visitor", credential),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ];
        let answer = after.client.send(Method::POST, "/public/mcp", &headers, call(1).to_string()).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.json()["id"], json!(1));
    }
}
