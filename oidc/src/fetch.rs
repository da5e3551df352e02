//! Gets an issuer's keys from where its configuration says. What is fetched is bounded in size and time, and no
//! redirect is followed.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::Deserialize;

use crate::issuer::{IssuerConfig, KeySource, key_url};
use crate::keys::{Keys, KeysError};

const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 1024 * 1024;
const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// Why an issuer's keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A file can't be read.
    #[error("can't read {}: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file of certificates can't be used.
    #[error("{} holds no usable certificate in PEM", .0.display())]
    Certificates(PathBuf),
    /// The keys can't be used.
    #[error("the JWKS at {place} {source}")]
    Keys {
        /// Where they come from.
        place: String,
        /// What is wrong.
        source: KeysError,
    },
    /// A server does not answer as it should.
    #[error("GET {uri}: {what}")]
    Http {
        /// What was asked for.
        uri: String,
        /// What went wrong.
        what: String,
    },
    /// The OpenID configuration belongs to another issuer.
    #[error("the OpenID configuration at {uri} is of issuer {found:?}, not {expected:?}")]
    OtherIssuer {
        /// Where it was found.
        uri: String,
        /// What it says.
        found: String,
        /// What the configuration says.
        expected: String,
    },
}

/// Gets the keys of one issuer, again and again.
pub(crate) struct Fetcher {
    issuer: String,
    source: KeySource,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

#[derive(Deserialize)]
struct OpenIdConfiguration {
    issuer: String,
    jwks_uri: String,
}

impl Fetcher {
    pub(crate) fn new(config: &IssuerConfig) -> Result<Self, FetchError> {
        let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = &config.ca_file {
            let unusable = || FetchError::Certificates(path.clone());
            let pem =
                std::fs::read(path).map_err(|source| FetchError::File { path: path.clone(), source })?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                roots.add(certificate.map_err(|_| unusable())?).map_err(|_| unusable())?;
            }
        }
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Ok(Self {
            issuer: config.issuer.clone(),
            source: config.keys.clone(),
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// How often the keys are fetched anew without being asked for. Inline keys never change.
    pub(crate) fn interval(&self) -> Option<Duration> {
        match self.source {
            KeySource::Inline(_) => None,
            KeySource::File(_) => Some(Duration::from_secs(5)),
            KeySource::Uri(_) | KeySource::Discovery(_) => Some(Duration::from_mins(10)),
        }
    }

    pub(crate) async fn fetch(&self) -> Result<Keys, FetchError> {
        let (place, text) = match &self.source {
            KeySource::Inline(text) => ("the configuration".to_owned(), text.clone()),
            KeySource::File(path) => {
                let text = tokio::fs::read_to_string(path)
                    .await
                    .map_err(|source| FetchError::File { path: path.clone(), source })?;
                (path.display().to_string(), text)
            }
            KeySource::Uri(uri) => (uri.to_string(), self.get(uri).await?),
            KeySource::Discovery(issuer) => {
                let uri = self.discover(issuer).await?;
                (uri.to_string(), self.get(&uri).await?)
            }
        };
        Keys::parse(&text).map_err(|source| FetchError::Keys { place, source })
    }

    async fn discover(&self, issuer: &Uri) -> Result<Uri, FetchError> {
        let text = format!("{}{DISCOVERY_PATH}", issuer.to_string().trim_end_matches('/'));
        let uri: Uri =
            text.parse().map_err(|_| failed(issuer, "has no place for an OpenID configuration"))?;
        let body = self.get(&uri).await?;
        let found: OpenIdConfiguration = serde_json::from_str(&body)
            .map_err(|error| failed(&uri, format!("no OpenID configuration: {error}")))?;
        if found.issuer != self.issuer {
            let (found, expected) = (found.issuer, self.issuer.clone());
            return Err(FetchError::OtherIssuer { uri: uri.to_string(), found, expected });
        }
        key_url(&found.jwks_uri)
            .ok_or_else(|| failed(&uri, "its jwks_uri is no https URL (http only for a loopback address)"))
    }

    async fn get(&self, uri: &Uri) -> Result<String, FetchError> {
        tokio::time::timeout(TIMEOUT, self.get_unbounded(uri))
            .await
            .unwrap_or_else(|_| Err(failed(uri, format!("no answer within {} s", TIMEOUT.as_secs()))))
    }

    async fn get_unbounded(&self, uri: &Uri) -> Result<String, FetchError> {
        let request = Request::get(uri.clone())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("dexorder/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| failed(uri, error))?;
        let response = self.client.request(request).await.map_err(|error| failed(uri, chain(&error)))?;
        if response.status() != http::StatusCode::OK {
            return Err(failed(uri, format!("status {}, expected 200", response.status())));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES)
            .collect()
            .await
            .map_err(|error| failed(uri, error))?;
        String::from_utf8(body.to_bytes().to_vec()).map_err(|_| failed(uri, "the body is no UTF-8"))
    }
}

fn failed(uri: &Uri, what: impl std::fmt::Display) -> FetchError {
    FetchError::Http { uri: uri.to_string(), what: what.to_string() }
}

/// An error with its causes: the client's own text only says that it could not connect.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
