//! The objects that a workspace is made of, built from its manifest and terms. [no client]

mod agent;
mod claim;
mod parts;
mod pod;
mod sidecar;
mod subject;
mod volumes;

pub use claim::{claim, member_claim};
pub use pod::pod;
pub use subject::{Member, PodFor, assignment, fits_member, member_terms};

use dexorder_crds::UserWorkspace;
use dexorder_protocol::{MCP_PATH, MCP_PORT};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;

/// What every pod is built with, whatever its workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Image of the sidecar.
    pub sidecar_image: String,
    /// When the kubelet pulls images.
    pub image_pull_policy: String,
    /// The public keys that a sidecar trusts, as JSON.
    pub identity_keys: String,
    /// Log filter of the sidecar.
    pub sidecar_log: String,
}

/// URL of the MCP endpoint of a pod with this address.
pub fn endpoint(ip: &str) -> String {
    if ip.contains(':') {
        format!("http://[{ip}]:{MCP_PORT}{MCP_PATH}")
    } else {
        format!("http://{ip}:{MCP_PORT}{MCP_PATH}")
    }
}

/// The workspace as the owner of what goes with it.
pub fn owner(workspace: &UserWorkspace) -> Option<OwnerReference> {
    workspace.controller_owner_ref(&())
}
