//! The program itself: its exit code on a bad environment, and its end at SIGTERM.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::agent::Agent;
use crate::client::full;
use crate::sidecar::Place;

const SOON: Duration = Duration::from_secs(10);

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    mcp: SocketAddr,
    control: SocketAddr,
}

fn command(environment: Vec<(String, String)>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dexorder-sidecar"));
    command.env_clear().envs(environment).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Process {
    async fn start(place: &Place) -> Self {
        let mut child = command(place.environment(&[])).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let serving = line(&mut lines, "serving").await;
        let address = |name: &str| serving[name].as_str().unwrap().parse().unwrap();
        Self { mcp: address("mcp"), control: address("control"), child, lines }
    }

    async fn terminate(&mut self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    }

    async fn exit_code(&mut self) -> Option<i32> {
        timeout(SOON, self.child.wait()).await.expect("it did not end").unwrap().code()
    }
}

/// The next log line with this message.
async fn line(lines: &mut Lines<BufReader<ChildStdout>>, message: &str) -> Value {
    let find = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let line: Value = serde_json::from_str(&line).expect("a log line is JSON");
            if line["message"] == message {
                return line;
            }
        }
        panic!("it ended without saying {message:?}");
    };
    timeout(SOON, find).await.unwrap_or_else(|_| panic!("it never said {message:?}"))
}

#[tokio::test]
async fn a_bad_environment_is_named_and_ends_with_64() {
    let place = Place::new();
    let bad = [("DEXORDER_MCP_ADDR", "8080"), ("DEXORDER_AUTH_MODE", "Open")];
    let output = command(place.environment(&bad)).output().await.unwrap();
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("DEXORDER_MCP_ADDR is \"8080\"") && text.contains("DEXORDER_AUTH_MODE"), "{text}");
}

#[tokio::test]
async fn keys_that_can_not_be_read_are_named_and_end_with_64() {
    let place = Place::new();
    std::fs::write(place.keys_file(), "{").unwrap();
    let output = command(place.environment(&[])).output().await.unwrap();
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(place.keys_file().to_str().unwrap()), "{text}");
}

#[tokio::test]
async fn sigterm_lets_running_work_end_saves_and_exits_with_0() {
    let place = Place::new();
    let agent = Agent::start(&place.socket());
    let mut process = Process::start(&place).await;
    let mcp = process.mcp;
    let stopping = async {
        agent.running(1).await;
        process.terminate().await;
        line(&mut process.lines, "SIGTERM: draining").await;
        timeout(SOON, async {
            while place.post(mcp, "", full("{}")).await.unwrap().header("dexorder-reason") != Some("Draining")
            {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("new work was never refused");
        agent.state.release.add_permits(1);
        process.exit_code().await
    };
    let (answer, code) = tokio::join!(place.post(mcp, "wait", full("{}")), stopping);
    let answer = answer.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json().await["id"], 1);
    assert_eq!(code, Some(0));
    assert_eq!(agent.saves(), 1);
}

#[tokio::test]
async fn sigterm_after_the_agent_has_ended_exits_at_once() {
    let place = Place::new();
    let agent = Agent::start(&place.socket());
    let mut process = Process::start(&place).await;
    assert_eq!(place.post(process.mcp, "", full("{}")).await.unwrap().status, StatusCode::OK);
    agent.kill();
    process.terminate().await;
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn sigterm_after_a_drain_saves_no_second_time() {
    let place = Place::new();
    let agent = Agent::start(&place.socket());
    let mut process = Process::start(&place).await;
    let drained = place.drain(process.control, &serde_json::json!({"mode": "Force"})).await;
    assert_eq!(drained.json().await["savedCommit"], "c1");
    process.terminate().await;
    assert_eq!(process.exit_code().await, Some(0));
    assert_eq!(agent.saves(), 1);
}
