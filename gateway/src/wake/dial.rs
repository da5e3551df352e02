//! Waits until an address takes connections. A pod has its address before its containers run, so that refusals are
//! normal at first.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// A connection that is not answered within this time is tried anew.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// Returns once the address takes a connection.
pub(super) async fn dial(address: SocketAddr) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok(Ok(_)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
