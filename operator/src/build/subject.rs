//! Whom a pod is made for: a workspace, or whoever takes it over from the warm pool. [no client]

use std::collections::BTreeMap;

use dexorder_crds::{Access, AuthMode, UserWorkspace, WorkspaceTier, WorkspaceTierSpec, keys};
use dexorder_protocol::control::{self, Assignment};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use crate::plan::Terms;

/// Whom a pod is made for.
#[derive(Clone, Copy, Debug)]
pub enum PodFor<'a> {
    /// A workspace, on the claim of that name.
    Workspace(&'a UserWorkspace, &'a str),
    /// Whoever comes first.
    Member(&'a Member),
}

/// A pod and a claim of a tier's warm pool, both of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Their name.
    pub name: String,
    /// Their namespace.
    pub namespace: String,
    /// The tier.
    pub tier: String,
    /// The auth mode that the pod is made for.
    pub mode: AuthMode,
    /// Name of the operator that they belong to, if it has one.
    pub operator: Option<String>,
}

/// What a member of the tier's pool is made from: its mode and the tier's own terms. None if the tier can't have any.
pub fn member_terms(tier: &WorkspaceTierSpec) -> Option<(AuthMode, Terms)> {
    // A public workspace has its data read-only, so one pod can't serve for both.
    let mode =
        [AuthMode::Gateway, AuthMode::Public].into_iter().find(|mode| tier.auth_modes.contains(mode))?;
    Some((mode, Terms::of_tier(tier, mode)?))
}

/// Whether the workspace asks for nothing but what a member of its tier's pool has.
pub fn fits_member(workspace: &UserWorkspace, tier: &WorkspaceTier, terms: &Terms) -> bool {
    let spec = &workspace.spec;
    let Some((mode, of_member)) = member_terms(&tier.spec) else {
        return false;
    };
    // The idle timeout and the retention are nothing that a pod is made from, but for the sessions of visitors.
    let sessions = mode != AuthMode::Public || terms.idle_timeout == of_member.idle_timeout;
    let Terms { idle_timeout: _, image, storage_size, storage_class, retention: _, access, egress } = terms;
    spec.auth.mode == mode
        && spec.template.is_none()
        && spec.repository.is_none()
        && sessions
        && *image == of_member.image
        && *storage_size == of_member.storage_size
        && *storage_class == of_member.storage_class
        && *access == of_member.access
        && *egress == of_member.egress
}

/// What the sidecar of a member is told when the workspace takes it over.
pub fn assignment(workspace: &UserWorkspace, terms: &Terms) -> Assignment {
    Assignment {
        workspace_uid: workspace.uid().unwrap_or_default(),
        workspace: workspace.name_any(),
        namespace: workspace.namespace().unwrap_or_default(),
        user_id: workspace.spec.user_id.clone(),
        auth_mode: match workspace.spec.auth.mode {
            AuthMode::Public => control::AuthMode::Public,
            AuthMode::Gateway => control::AuthMode::Gateway,
            AuthMode::Direct => control::AuthMode::Direct,
        },
        access: match terms.access {
            Access::ReadOnly => control::Access::ReadOnly,
            Access::Full => control::Access::Full,
        },
    }
}

impl<'a> PodFor<'a> {
    pub(super) const fn workspace(self) -> Option<&'a UserWorkspace> {
        match self {
            Self::Workspace(workspace, _) => Some(workspace),
            Self::Member(_) => None,
        }
    }

    pub(super) const fn mode(self) -> AuthMode {
        match self {
            Self::Workspace(workspace, _) => workspace.spec.auth.mode,
            Self::Member(member) => member.mode,
        }
    }

    pub(super) fn tier(self) -> &'a str {
        match self {
            Self::Workspace(workspace, _) => &workspace.spec.tier,
            Self::Member(member) => &member.tier,
        }
    }

    pub(super) fn claim(self) -> &'a str {
        match self {
            Self::Workspace(_, claim) => claim,
            Self::Member(member) => &member.name,
        }
    }

    pub(super) fn metadata(self) -> ObjectMeta {
        match self {
            Self::Workspace(workspace, _) => ObjectMeta {
                name: Some(keys::child_name(&workspace.name_any())),
                namespace: workspace.metadata.namespace.clone(),
                labels: Some(labels(keys::WORKSPACE_LABEL, &workspace.name_any())),
                ..ObjectMeta::default()
            },
            Self::Member(member) => {
                let mut labels = labels(keys::POOL_LABEL, &member.tier);
                if let Some(operator) = &member.operator {
                    labels.insert(keys::OPERATOR_LABEL.to_owned(), operator.clone());
                }
                ObjectMeta {
                    name: Some(member.name.clone()),
                    namespace: Some(member.namespace.clone()),
                    labels: Some(labels),
                    ..ObjectMeta::default()
                }
            }
        }
    }
}

fn labels(key: &str, value: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", keys::APP_NAME),
        ("app.kubernetes.io/managed-by", keys::MANAGED_BY),
        (key, value),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}
