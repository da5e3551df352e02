//! TLS at the gateway, and a certificate that is replaced.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{prepared_world, until_within};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/tls").join(name)).unwrap()
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&fixture(&format!("{name}.crt"))).unwrap()
}

fn install(folder: &Path, name: &str) {
    for (file, end) in [("tls.crt", "crt"), ("tls.key", "key")] {
        std::fs::write(folder.join(file), fixture(&format!("{name}.{end}"))).unwrap();
    }
}

/// A connection over which requests can be sent, and the certificate that the gateway showed.
async fn connect(address: SocketAddr) -> (SendRequest<Empty<Bytes>>, CertificateDer<'static>) {
    let mut roots = RootCertStore::empty();
    for name in ["first", "second"] {
        roots.add(certificate(name)).unwrap();
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("gw.example").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    (sender, shown)
}

async fn get(connection: &mut SendRequest<Empty<Bytes>>) -> u16 {
    let request = Request::get("/healthz").header("host", "gw.example").body(Empty::new()).unwrap();
    let response = connection.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    response.into_body().collect().await.unwrap();
    status
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_and_open_connections_live_on() {
    let world = prepared_world("tls: {folder: 'FILES/tls'}", |files| {
        std::fs::create_dir(files.join("tls")).unwrap();
        install(&files.join("tls"), "first");
    })
    .await;
    let address = world.gateway.address;
    let (mut open, shown) = connect(address).await;
    assert_eq!(shown, certificate("first"));
    assert_eq!(get(&mut open).await, 200);
    let folder = world.files.path().join("tls");
    install(&folder, "second");
    until_within(Duration::from_mins(2), "the new certificate is shown", async || {
        connect(address).await.1 == certificate("second")
    })
    .await;
    assert_eq!(get(&mut open).await, 200);
    // Who speaks no TLS is left, and hinders nobody.
    assert!(refuses_plain(address).await);
    assert_eq!(get(&mut connect(address).await.0).await, 200);
    assert_eq!(world.management.get("/livez").await.status, 200);
}

/// Whether a client that speaks plain HTTP is turned away.
async fn refuses_plain(address: SocketAddr) -> bool {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/healthz").header("host", "gw.example").body(Empty::<Bytes>::new()).unwrap();
    sender.send_request(request).await.is_err()
}
