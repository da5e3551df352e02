//! How much time the sidecar adds to a call: the same call to an HTTP server on a unix socket, directly and through
//! the sidecar program. Prints percentiles and the program's memory; fails if the median adds 0.5 ms or more.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::{Json, Router, routing};
use bytes::Bytes;
use dexorder_protocol::identity::sign;
use dexorder_protocol::{Issuer, KeySet, SigningKey, headers};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

type Failure = Box<dyn std::error::Error>;

const CALLS: usize = 5_000;
const LIMIT: Duration = Duration::from_micros(500);
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#;

/// Ends the program when the measurement is over, however it ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Failure> {
    let folder = TempDir::new()?;
    let socket = folder.path().join("agent.sock");
    let answer = Router::new()
        .route("/mcp", routing::post(|| async { Json(json!({"jsonrpc": "2.0", "id": 1, "result": {}})) }))
        .route("/lifecycle/status", routing::get(|| async { Json(json!({"ready": true})) }));
    let listener = UnixListener::bind(&socket)?;
    tokio::spawn(async move { axum::serve(listener, answer).await });

    let key = SigningKey::from_pem(&SigningKey::generate_pem()?)?;
    let keys_file = folder.path().join("identity-keys");
    std::fs::write(&keys_file, KeySet::default().with(Issuer::Gateway, &key).to_json()?)?;
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let program = start(&socket, &keys_file, port)?;

    let same = token(&key)?;
    let mut direct = connect(UnixStream::connect(&socket).await?).await?;
    let mut through = connect(dial(port).await?).await?;
    // Warm both ways up, then take turns, so that both meet the same neighbours on this machine.
    let mut times: [Vec<Duration>; 3] = Default::default();
    for number in 0..CALLS + 500 {
        let fresh = token(&key)?;
        let found = [
            call(&mut direct, &same).await?,
            call(&mut through, &same).await?,
            call(&mut through, &fresh).await?,
        ];
        if number >= 500 {
            for (times, time) in times.iter_mut().zip(found) {
                times.push(time);
            }
        }
    }
    let [direct, through, fresh] = times.map(|mut times| {
        times.sort_unstable();
        times
    });
    print("direct", &direct);
    print("through, same token", &through);
    print("through, new token each time", &fresh);
    println!("memory of the program: {}", memory(program.0.id())?);
    let added = through[CALLS / 2].saturating_sub(direct[CALLS / 2]);
    println!("added at the median: {added:?}");
    if added < LIMIT { Ok(()) } else { Err(format!("the sidecar adds {added:?}, over {LIMIT:?}").into()) }
}

fn start(socket: &Path, keys_file: &Path, port: u16) -> Result<Program, Failure> {
    // The static build can be measured by naming it.
    let program = std::env::var_os("DEXORDER_SIDECAR_BINARY")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_dexorder-sidecar").into());
    let child = Command::new(program)
        .env_clear()
        .env("DEXORDER_WORKSPACE_UID", "uid-1")
        .env("DEXORDER_WORKSPACE", "trader1")
        .env("DEXORDER_NAMESPACE", "dexorder")
        .env("DEXORDER_USER_ID", "trader1")
        .env("DEXORDER_AUTH_MODE", "Gateway")
        .env("DEXORDER_ACCESS", "Full")
        .env("DEXORDER_AGENT_SOCKET", socket)
        .env("DEXORDER_IDENTITY_KEYS_FILE", keys_file)
        .env("DEXORDER_MCP_ADDR", format!("127.0.0.1:{port}"))
        .env("DEXORDER_CONTROL_ADDR", "127.0.0.1:0")
        .stdout(Stdio::null())
        .spawn()?;
    Ok(Program(child))
}

async fn dial(port: u16) -> Result<TcpStream, Failure> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) if Instant::now() > until => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn connect<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Another token every time (its identifier is random), good for a minute.
fn token(key: &SigningKey) -> Result<String, Failure> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    Ok(sign(key, Issuer::Gateway, "uid-1", "trader1", i64::try_from(now)?)?)
}

async fn call(sender: &mut SendRequest<Full<Bytes>>, token: &str) -> Result<Duration, Failure> {
    sender.ready().await?;
    let request = Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2026-07-28")
        .header(headers::IDENTITY, token)
        .body(Full::from(CALL))?;
    let began = Instant::now();
    let response = sender.send_request(request).await?;
    let status = response.status();
    response.into_body().collect().await?;
    let took = began.elapsed();
    if status.is_success() { Ok(took) } else { Err(format!("a call got {status}").into()) }
}

fn print(name: &str, times: &[Duration]) {
    println!(
        "{name}: p50 {:?}, p95 {:?}, p99 {:?}",
        times[times.len() / 2],
        times[times.len() * 95 / 100],
        times[times.len() * 99 / 100]
    );
}

fn memory(pid: u32) -> Result<String, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("unknown").to_owned())
}
