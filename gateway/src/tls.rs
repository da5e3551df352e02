//! TLS on the clients' port, with a certificate that is replaced while the gateway runs. Connections that are open keep
//! what they began with; new ones get the newest certificate that could be read.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The files as Kubernetes names them in a Secret of type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// How often the files are looked at.
const REREAD: Duration = Duration::from_secs(5);
/// A client that has not shaken hands within this time is left.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why TLS can't be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what} in PEM", path.display())]
    Pem {
        /// Path of the file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Certificate and key can't be used together.
    #[error("the certificate in {} can't be used with its key: {source}", folder.display())]
    Pair {
        /// The folder of both.
        folder: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

/// A certificate with its key, and the bytes that they were read from.
struct Pair {
    certified: Arc<CertifiedKey>,
    files: (Vec<u8>, Vec<u8>),
}

/// The certificate in a folder, followed.
struct Certificate {
    folder: PathBuf,
    current: RwLock<Pair>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).certified))
    }
}

/// Speaks TLS with clients.
#[derive(Clone)]
pub(crate) struct Tls {
    certificate: Arc<Certificate>,
    acceptor: TlsAcceptor,
}

impl Tls {
    pub(crate) async fn new(folder: PathBuf) -> Result<Self, TlsError> {
        let pair = read(&folder).await?;
        let certificate = Arc::new(Certificate { folder: folder.clone(), current: RwLock::new(pair) });
        let versions = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Pair { folder, source })?;
        let mut config = versions
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { certificate, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Shakes hands with a client.
    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream))
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut)))
    }

    /// Follows the files, for ever. What can't be read leaves the certificate before in use.
    pub(crate) async fn follow(&self) {
        loop {
            tokio::time::sleep(REREAD).await;
            self.reread().await;
        }
    }

    async fn reread(&self) {
        match read(&self.certificate.folder).await {
            Ok(pair) => {
                let mut current = self.certificate.current.write().unwrap_or_else(PoisonError::into_inner);
                if current.files != pair.files {
                    tracing::info!("TLS certificate changed");
                    *current = pair;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the TLS certificate can't be reread; the known one stays in use");
            }
        }
    }
}

async fn read(folder: &Path) -> Result<Pair, TlsError> {
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    let files = (bytes(&certificate).await?, bytes(&key).await?);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&files.0)
        .collect::<Result<_, _>>()
        .ok()
        .filter(|chain: &Vec<_>| !chain.is_empty())
        .ok_or(TlsError::Pem { path: certificate, what: "certificate" })?;
    let key = PrivateKeyDer::from_pem_slice(&files.1)
        .map_err(|_| TlsError::Pem { path: key, what: "private key" })?;
    let unusable = |source| TlsError::Pair { folder: folder.to_owned(), source };
    let certified = CertifiedKey::new(chain, any_supported_type(&key).map_err(unusable)?);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(source) => return Err(unusable(source)),
    }
    Ok(Pair { certified: Arc::new(certified), files })
}

async fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path).await.map_err(|source| TlsError::Read { path: path.to_owned(), source })
}
