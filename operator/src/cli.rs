//! Command line and environment of the operator.

use std::net::SocketAddr;

use clap::Parser;

/// Turns `UserWorkspace` resources into pods and volumes.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// Image of the sidecar in every workspace.
    #[arg(long, env = "SIDECAR_IMAGE")]
    pub sidecar_image: String,
    /// When the kubelet pulls the images of a workspace: `Always`, `IfNotPresent` or `Never`.
    #[arg(long, env = "IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: String,
    /// Where probes and metrics are served.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8081")]
    pub listen: SocketAddr,
    /// Name of this replica.
    #[arg(long, env = "POD_NAME", default_value = "dexorder-operator")]
    pub pod_name: String,
    /// Namespace of the operator, for its Lease and the signing keys.
    #[arg(long, env = "POD_NAMESPACE", default_value = "dexorder-system")]
    pub pod_namespace: String,
    /// The only namespace whose workspaces are served. Left out: all of them.
    #[arg(long, env = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Serves the workspaces with the label `dexorder.io/operator` of this value. Left out: those without the label.
    #[arg(long, env = "OPERATOR_NAME")]
    pub operator_name: Option<String>,
    /// Namespace of the warm pools: workspaces of that namespace take their members over. Left out: no tier has a pool.
    #[arg(long, env = "POOL_NAMESPACE")]
    pub pool_namespace: Option<String>,
    /// Most workspaces that may be starting at once, whatever their tier; the others wait in line.
    #[arg(long, env = "MAX_CONCURRENT_STARTS", default_value_t = 50)]
    pub max_concurrent_starts: usize,
    /// Log filter, such as `info` or `dexorder_operator=debug,kube=info`.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub log: String,
    /// Log filter of the sidecars.
    #[arg(long, env = "SIDECAR_LOG", default_value = "info")]
    pub sidecar_log: String,
    /// For tests: the process ends at once after so many writes to the API server. The lease does not count.
    #[arg(long, hide = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub end_after_writes: Option<u64>,
}
