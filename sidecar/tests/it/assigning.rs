//! A pod of a pool, and the workspace that it becomes.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::agent::Agent;
use crate::client::{Answer, full, send};
use crate::sidecar::{Place, Sidecar, UID, USER};

const SOON: Duration = Duration::from_secs(10);
const POD: &str = "pod-uid-1";

fn assignment(uid: &str, mode: &str) -> Value {
    json!({
        "workspaceUid": uid, "workspace": "trader1", "namespace": "dexorder", "userId": USER,
        "authMode": mode, "access": "Full",
    })
}

async fn waiting(place: Place) -> Sidecar {
    let file = place.path("assignment").to_str().unwrap().to_owned();
    let pool =
        [("DEXORDER_POOL", "true"), ("DEXORDER_POD_UID", POD), ("DEXORDER_ASSIGNMENT_FILE", file.as_str())];
    Sidecar::start_with(place, &pool).await
}

async fn assign(sidecar: &Sidecar, audience: &str, request: &Value) -> Answer {
    let headers = sidecar.place.operator_headers_for(audience);
    let body = full(request.to_string());
    send(sidecar.server.control_addr(), Method::POST, "/v1/assign", headers, body).await.unwrap()
}

async fn report(sidecar: &Sidecar, audience: &str) -> (StatusCode, Value) {
    let headers = sidecar.place.operator_headers_for(audience);
    let answer =
        send(sidecar.server.control_addr(), Method::GET, "/v1/report", headers, full("")).await.unwrap();
    (answer.status, answer.json().await)
}

#[tokio::test]
async fn a_pod_of_a_pool_serves_nobody_until_it_is_assigned_and_then_one_for_good() {
    let sidecar = waiting(Place::new()).await;
    let agent = Agent::start(&sidecar.place.socket());
    sidecar.ready().await;
    let refused = sidecar.call("").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("dexorder-reason"), Some("AgentStarting"));
    assert_eq!(refused.json().await["id"], 42);
    assert_eq!(report(&sidecar, UID).await.0, StatusCode::UNAUTHORIZED);
    let (status, before) = report(&sidecar, POD).await;
    assert_eq!((status, before.get("workspaceUid")), (StatusCode::OK, None));

    let by_gateway = sidecar.place.user_headers("operator");
    for headers in [by_gateway, HeaderMap::new(), sidecar.place.operator_headers_for("other-pod")] {
        let body = full(assignment(UID, "Gateway").to_string());
        let answer =
            send(sidecar.server.control_addr(), Method::POST, "/v1/assign", headers, body).await.unwrap();
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    for bad in [json!({}), assignment("", "Gateway"), assignment(UID, "Direct"), assignment(UID, "Open")] {
        assert_eq!(assign(&sidecar, POD, &bad).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(agent.executed(), 0);

    for audience in [POD, POD, UID] {
        let answer = assign(&sidecar, audience, &assignment(UID, "Gateway")).await;
        assert_eq!(answer.status, StatusCode::OK, "{audience}");
        assert_eq!(answer.json().await["workspaceUid"], UID);
    }
    assert_eq!(assign(&sidecar, POD, &assignment("other-uid", "Gateway")).await.status, StatusCode::CONFLICT);
    assert_eq!(report(&sidecar, POD).await.0, StatusCode::UNAUTHORIZED);
    let (status, after) = report(&sidecar, UID).await;
    assert_eq!(status, StatusCode::OK);
    let time =
        |report: &Value| report["lastActivityTime"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time(&after) > time(&before), "its time begins with the assignment");
    assert_eq!(sidecar.call("").await.status, StatusCode::OK);
    assert_eq!(agent.last_seen().headers["dexorder-user"], USER);
    let other = sidecar.request(Method::POST, sidecar.place.user_headers("trader2"), full("{}")).await;
    assert_eq!(other.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_sidecar_that_restarts_finds_its_assignment_and_one_that_runs_takes_it_up() {
    let place = Place::new();
    std::fs::write(place.path("assignment"), assignment(UID, "Public").to_string()).unwrap();
    let sidecar = waiting(place).await;
    assert_eq!(report(&sidecar, UID).await.1["workspaceUid"], UID);

    let sidecar = waiting(Place::new()).await;
    let file = sidecar.place.path("assignment");
    for (content, assigned) in
        [("", false), ("{half", false), (&assignment(UID, "Gateway").to_string(), true)]
    {
        std::fs::write(&file, content).unwrap();
        if assigned {
            let taken_up = async {
                while report(&sidecar, UID).await.0 != StatusCode::OK {
                    tokio::task::yield_now().await;
                }
            };
            timeout(SOON, taken_up).await.expect("the assignment was never taken up");
        } else {
            assert_eq!(report(&sidecar, POD).await.0, StatusCode::OK);
        }
    }
    // What the file says later changes nothing.
    std::fs::write(&file, assignment("other-uid", "Gateway").to_string()).unwrap();
    assert_eq!(assign(&sidecar, UID, &assignment("other-uid", "Gateway")).await.status, StatusCode::CONFLICT);
    assert_eq!(report(&sidecar, UID).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_pod_that_was_made_for_a_workspace_takes_no_other() {
    let sidecar = Sidecar::start().await;
    for uid in [UID, "other-uid"] {
        assert_eq!(assign(&sidecar, UID, &assignment(uid, "Gateway")).await.status, StatusCode::CONFLICT);
    }
}
