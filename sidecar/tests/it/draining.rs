//! Report, drain-if-idle and drain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::agent::Agent;
use crate::client::full;
use crate::sidecar::{Sidecar, USER};

const SOON: Duration = Duration::from_secs(10);
const FAR_FUTURE: &str = "2100-01-01T00:00:00Z";

fn if_idle(since: &Value) -> Value {
    json!({"mode": "IfIdle", "idleSinceTime": since})
}

async fn started() -> (Sidecar, Agent) {
    let sidecar = Sidecar::start().await;
    let agent = Agent::start(&sidecar.place.socket());
    sidecar.ready().await;
    (sidecar, agent)
}

#[tokio::test]
async fn the_report_tells_what_runs_and_when_something_last_happened() {
    let (sidecar, agent) = started().await;
    let before = sidecar.report().await;
    assert_eq!(before["lastActivityTime"], before["startTime"]);
    assert_eq!((&before["agentReady"], &before["draining"]), (&json!(true), &json!(false)));
    assert_eq!((&before["inFlight"], &before["busy"]), (&json!(0), &json!([])));
    assert_eq!(before["savedCommit"], "c0");
    sidecar.call("").await.text().await;
    *agent.state.busy.lock().unwrap() = vec!["run_indicator ema".to_owned()];
    let after = sidecar.report().await;
    let time =
        |report: &Value| report["lastActivityTime"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time(&after) > time(&before));
    assert_eq!(after["busy"], json!(["run_indicator ema"]));
    agent.kill();
    assert_eq!(sidecar.report().await["agentReady"], false);
}

#[tokio::test]
async fn the_report_tells_when_a_call_was_first_answered() {
    let (sidecar, _agent) = started().await;
    let first = async || sidecar.report().await.get("firstAnswerTime").cloned();
    assert_eq!(first().await, None);
    sidecar.call("").await.text().await;
    let answered = first().await;
    assert!(answered.is_some());
    sidecar.call("").await.text().await;
    assert_eq!(first().await, answered);
}

#[tokio::test]
async fn a_drain_tells_what_became_of_the_push() {
    let (sidecar, agent) = started().await;
    let remote = json!({"pushed": "c0", "problem": "no route to the host"});
    agent.state.remote.lock().unwrap().clone_from(&remote);
    let (_, outcome) = sidecar.drain(json!({"mode": "Force"})).await;
    assert_eq!(outcome["remote"], remote);
    assert_eq!(outcome["error"], Value::Null);
}

#[tokio::test]
async fn a_sidecar_that_is_started_anew_in_a_drained_pod_serves_nothing_and_drains_again() {
    let (sidecar, agent) = started().await;
    assert_eq!(sidecar.drain(json!({"mode": "Force"})).await.0, StatusCode::OK);
    let Sidecar { place, server } = sidecar;
    drop(server);
    let again = Sidecar::start_with(place, &[]).await;
    assert_eq!(again.report().await["draining"], true);
    let refused = again.call("").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.json().await["error"]["data"]["reason"], "Draining");
    let (status, outcome) = again.drain(if_idle(&json!(FAR_FUTURE))).await;
    assert_eq!((status, &outcome["savedCommit"]), (StatusCode::OK, &json!("c2")));
    assert_eq!(agent.saves(), 2);
}

#[tokio::test]
async fn a_sidecar_that_ended_by_itself_serves_again_when_it_is_started_anew() {
    let (sidecar, _agent) = started().await;
    let Sidecar { place, server } = sidecar;
    server.stop().await;
    let again = Sidecar::start_with(place, &[]).await;
    again.ready().await;
    assert_eq!(again.call("").await.status, StatusCode::OK);
}

#[tokio::test]
async fn each_chunk_of_a_running_call_is_activity_and_a_listening_stream_is_none() {
    let (sidecar, agent) = started().await;
    let (chunks, news) = (agent.stream(), agent.stream());
    let mut call = sidecar.call("stream").await;
    let before = sidecar.report().await;
    chunks.send(Bytes::from_static(b"data: 1\n\n")).await.unwrap();
    call.chunk().await.unwrap();
    let after = sidecar.report().await;
    assert_ne!(after["lastActivityTime"], before["lastActivityTime"]);
    drop(chunks);
    assert_eq!(call.chunk().await.unwrap(), None);

    let quiet = sidecar.report().await;
    let mut headers = sidecar.place.user_headers(USER);
    headers.insert(crate::agent::DO, "stream".parse().unwrap());
    let mut listening = sidecar.request(Method::GET, headers, full("")).await;
    news.send(Bytes::from_static(b": still here\n\n")).await.unwrap();
    listening.chunk().await.unwrap();
    let report = sidecar.report().await;
    assert_eq!((&report["inFlight"], &report["openStreams"]), (&json!(0), &json!(1)));
    assert_eq!(report["lastActivityTime"], quiet["lastActivityTime"]);
    let (status, outcome) = sidecar.drain(if_idle(&report["lastActivityTime"])).await;
    assert_eq!((status, &outcome["drained"]), (StatusCode::OK, &json!(true)));
    drop(listening);
    agent.running(0).await;
}

#[tokio::test]
async fn what_is_not_idle_is_not_drained_and_goes_on() {
    let (sidecar, agent) = started().await;
    let since = sidecar.report().await["lastActivityTime"].clone();

    let refused = async |reason: &str, since: &Value| {
        let (status, outcome) = sidecar.drain(if_idle(since)).await;
        assert_eq!(status, StatusCode::CONFLICT, "{reason}");
        assert_eq!((&outcome["drained"], &outcome["reason"]), (&json!(false), &json!(reason)));
        assert_eq!(outcome["report"]["draining"], false, "{reason}");
    };
    {
        let call = sidecar.call("wait");
        tokio::select! {
            _ = call => panic!("the call was answered"),
            () = async {
                agent.running(1).await;
                refused("InFlight", &json!(FAR_FUTURE)).await;
            } => {}
        }
    }
    agent.running(0).await;
    refused("Active", &since).await;
    *agent.state.busy.lock().unwrap() = vec!["backtest".to_owned()];
    refused("Busy", &json!(FAR_FUTURE)).await;
    agent.state.busy.lock().unwrap().clear();

    assert_eq!(agent.saves(), 0);
    assert_eq!(sidecar.call("").await.status, StatusCode::OK);
    for outcome in ["InFlight", "Active", "Busy"] {
        let line = format!("dexorder_sidecar_drains_total{{outcome=\"{outcome}\"}}");
        assert_eq!(sidecar.metric(&line).await, Some(1.0));
    }
}

#[tokio::test]
async fn an_idle_workspace_is_not_drained_while_it_is_not_known_whether_the_agent_is_busy() {
    let (sidecar, agent) = started().await;
    agent.kill();
    let (status, problem) = sidecar.drain(if_idle(&json!(FAR_FUTURE))).await;
    assert_eq!((status, &problem["reason"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("AgentUnavailable")));
    assert_eq!(sidecar.report().await["draining"], false);
}

#[tokio::test]
async fn a_drain_that_is_badly_asked_for_is_refused_with_the_reason() {
    let (sidecar, agent) = started().await;
    for (request, text) in [
        (json!({"mode": "IfIdle"}), "idleSinceTime"),
        (json!({"mode": "Sometimes"}), "Sometimes"),
        (json!({"mode": "IfIdle", "idleSinceTime": "yesterday"}), "year"),
    ] {
        let (status, problem) = sidecar.drain(request).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(problem["error"].as_str().unwrap().contains(text), "{problem}");
    }
    assert_eq!(agent.saves(), 0);
}

#[tokio::test]
async fn a_drain_refuses_new_work_at_once_lets_running_work_end_and_saves_after_it() {
    let (sidecar, agent) = started().await;
    let draining = async {
        agent.running(1).await;
        let drain = sidecar.drain(json!({"mode": "Force"}));
        let meanwhile = async {
            while sidecar.report().await["draining"] != true {
                tokio::task::yield_now().await;
            }
            let refused = sidecar.call("").await;
            assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(refused.header("retry-after"), Some("1"));
            assert_eq!(refused.header("dexorder-reason"), Some("Draining"));
            let body = refused.json().await;
            assert_eq!((&body["id"], &body["error"]["data"]["reason"]), (&json!(42), &json!("Draining")));
            let readyz = sidecar.probe("/readyz").await;
            assert_eq!(readyz.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(readyz.json().await["reason"], "Draining");
            assert_eq!(agent.saves(), 0, "it saved before the running call had ended");
            agent.state.release.add_permits(1);
        };
        tokio::join!(drain, meanwhile).0
    };
    let (running, (status, outcome)) = tokio::join!(sidecar.call("wait"), draining);
    assert_eq!(running.status, StatusCode::OK);
    assert_eq!(status, StatusCode::OK);
    assert_eq!(outcome, json!({"drained": true, "savedCommit": "c1", "clean": true, "cancelled": 0}));
    assert_eq!(agent.executed(), 1);
    assert_eq!(sidecar.report().await["savedCommit"], "c1");
}

#[tokio::test]
async fn a_drain_cuts_off_at_its_deadline_what_does_not_end() {
    let (sidecar, agent) = started().await;
    let chunks = agent.stream();
    let mut stream = sidecar.call("stream").await;
    chunks.send(Bytes::from_static(b"data: 1\n\n")).await.unwrap();
    stream.chunk().await.unwrap();
    let draining = async {
        agent.running(2).await;
        sidecar.drain(json!({"mode": "Force", "deadlineSeconds": 1})).await
    };
    let (waiting, (status, outcome)) = tokio::join!(sidecar.call("wait"), draining);
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&outcome["cancelled"], &outcome["savedCommit"]), (&json!(2), &json!("c1")));
    assert_eq!(waiting.status, StatusCode::BAD_GATEWAY);
    assert_eq!(waiting.header("dexorder-reason"), Some("AgentUnavailable"), "it may not be sent again");
    assert!(timeout(SOON, stream.chunk()).await.unwrap().is_err(), "half an answer looked whole");
    agent.running(0).await;
}

#[tokio::test]
async fn a_second_drain_waits_for_the_first_and_gets_its_outcome() {
    let (sidecar, agent) = started().await;
    let draining = async {
        agent.running(1).await;
        let first = sidecar.drain(json!({"mode": "Force"}));
        let second = async {
            while sidecar.report().await["draining"] != true {
                tokio::task::yield_now().await;
            }
            let second = sidecar.drain(if_idle(&json!(FAR_FUTURE)));
            tokio::join!(second, async { agent.state.release.add_permits(1) }).0
        };
        tokio::join!(first, second)
    };
    let (_, (first, second)) = tokio::join!(sidecar.call("wait"), draining);
    assert_eq!(first.0, StatusCode::OK);
    assert_eq!(first, second);
    assert_eq!(sidecar.drain(json!({"mode": "Force"})).await, first);
    assert_eq!(agent.saves(), 1);
}

#[tokio::test]
async fn a_save_that_failed_is_told_and_tried_again_by_the_next_drain() {
    let (sidecar, agent) = started().await;
    agent.state.save_fails.store(true, Ordering::SeqCst);
    let (status, outcome) = sidecar.drain(json!({"mode": "Force"})).await;
    assert_eq!((status, &outcome["drained"]), (StatusCode::OK, &json!(true)));
    assert_eq!(outcome["clean"], false);
    assert!(outcome["error"].as_str().unwrap().contains("the disk is full"), "{outcome}");
    agent.state.save_fails.store(false, Ordering::SeqCst);
    let (_, outcome) = sidecar.drain(json!({"mode": "Force"})).await;
    assert_eq!((&outcome["savedCommit"], &outcome["error"]), (&json!("c1"), &Value::Null));
}

#[tokio::test]
async fn a_drain_goes_on_when_the_operator_stops_waiting() {
    let (sidecar, agent) = started().await;
    let leaving = async {
        agent.running(1).await;
        tokio::select! {
            _ = sidecar.drain(json!({"mode": "Force"})) => panic!("the drain ended with a call running"),
            () = async {
                while sidecar.report().await["draining"] != true {
                    tokio::task::yield_now().await;
                }
            } => {}
        }
        agent.state.release.add_permits(1);
    };
    let (answer, ()) = tokio::join!(sidecar.call("wait"), leaving);
    assert_eq!(answer.status, StatusCode::OK);
    timeout(SOON, async {
        while agent.saves() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("nothing was saved");
}

#[tokio::test]
async fn a_held_request_is_refused_when_the_workspace_stops() {
    let sidecar = Sidecar::start().await;
    let draining = async {
        while sidecar.report().await["inFlight"] != 1 {
            tokio::task::yield_now().await;
        }
        sidecar.drain(json!({"mode": "Force"})).await
    };
    let (answer, (status, outcome)) = tokio::join!(sidecar.call(""), draining);
    assert_eq!(answer.header("dexorder-reason"), Some("Draining"));
    assert_eq!(answer.json().await["id"], 42);
    assert_eq!((status, &outcome["cancelled"]), (StatusCode::OK, &json!(0)));
    assert!(outcome["error"].as_str().unwrap().contains("socket"), "{outcome}");
}

/// Clients send without pause while drain-if-idle is asked for again and again. Once it says yes, no request runs, none
/// was lost on the way, and everything that was answered had been carried out before the save.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_if_idle_is_atomic_under_load() {
    for round in 0..15 {
        let (sidecar, agent) = started().await;
        let sidecar = Arc::new(sidecar);
        let (answered, drained) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let (sidecar, answered, drained) =
                    (Arc::clone(&sidecar), Arc::clone(&answered), Arc::clone(&drained));
                tokio::spawn(async move {
                    loop {
                        let late = drained.load(Ordering::SeqCst);
                        let answer = sidecar.try_call("").await.expect("a request was dropped");
                        if answer.status == StatusCode::OK {
                            assert!(!late, "a request was let in after the drain had said yes");
                            assert_eq!(answer.json().await["result"], json!({}));
                            answered.fetch_add(1, Ordering::SeqCst);
                        } else {
                            assert_eq!(answer.header("dexorder-reason"), Some("Draining"));
                            return;
                        }
                    }
                })
            })
            .collect();
        let mut refusals = 0;
        loop {
            let (status, outcome) = sidecar.drain(if_idle(&json!(FAR_FUTURE))).await;
            if status == StatusCode::OK {
                assert_eq!(outcome["cancelled"], 0);
                break;
            }
            assert_eq!(outcome["reason"], "InFlight");
            refusals += 1;
        }
        drained.store(true, Ordering::SeqCst);
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(agent.executed(), answered.load(Ordering::SeqCst), "round {round}, {refusals} refusals");
        assert_eq!(agent.state.executed_at_save.load(Ordering::SeqCst), agent.executed(), "round {round}");
    }
}
