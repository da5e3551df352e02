//! The client for servers outside the cluster: model providers and the platform's MCP servers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::{CertificateDer, pem::PemObject};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) type WebClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Why a server can't be used.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The certificates can't be used.
    #[error("{place}: {} holds no usable certificate in PEM", path.display())]
    Certificates {
        /// Where the file is named in the configuration.
        place: String,
        /// Path of the file.
        path: PathBuf,
    },
    /// The credential can't be used.
    #[error("{place}: can't read {}: {source}", path.display())]
    Credential {
        /// Where the file is named in the configuration.
        place: String,
        /// Path of the file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A client that trusts the public certificates and those in a file. `place`: where the configuration names the server.
pub(crate) fn client(place: &str, ca_file: Option<&Path>) -> Result<WebClient, WebError> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        let unusable = || WebError::Certificates { place: format!("{place}.caFile"), path: path.to_owned() };
        let pem = std::fs::read(path).map_err(|_| unusable())?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.map_err(|_| unusable())?).map_err(|_| unusable())?;
        }
    }
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_timer(TokioTimer::new())
        .build(connector))
}

/// Checks that a credential is there.
pub(crate) fn check(place: &str, path: &Path) -> Result<(), WebError> {
    let failed = |source| WebError::Credential { place: place.to_owned(), path: path.to_owned(), source };
    std::fs::metadata(path).map(|_| ()).map_err(failed)
}

/// The credential in a file, as a bearer token. It is read at each use, so a new one needs no restart.
pub(crate) async fn bearer(path: &Path) -> std::io::Result<HeaderValue> {
    let text = tokio::fs::read_to_string(path).await?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
        .map_err(|_| std::io::Error::other("it holds characters that can't stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}
