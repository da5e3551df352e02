//! The volumes of a pod. [no client]

use dexorder_crds::{UserWorkspace, keys};
use k8s_openapi::{
    api::core::v1::{
        DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource, ObjectFieldSelector,
        PersistentVolumeClaimVolumeSource, SecretVolumeSource, Volume,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::{PodFor, parts::VOLUME};

/// The credential of the git remote among the pod's volumes.
pub(super) const REPOSITORY: &str = "repository";
/// The hashes of a workspace of auth mode Direct among the pod's volumes.
pub(super) const DIRECT_CREDENTIALS: &str = "direct-credentials";
/// The workspace that a pod of the warm pool was given to, among what the sidecar knows of its pod.
pub(super) const ASSIGNMENT_FILE: &str = "assignment";

pub(super) fn volumes(subject: PodFor<'_>) -> Vec<Volume> {
    let workspace = subject.workspace();
    let mut pod_info = vec![annotation("identity-keys", keys::IDENTITY_KEYS)];
    if workspace.is_none() {
        pod_info.push(annotation(ASSIGNMENT_FILE, keys::ASSIGNMENT));
    }
    let secrets = [
        workspace.and_then(repository_secret).map(|name| secret(REPOSITORY, name)),
        workspace.and_then(direct_secret).map(|name| secret(DIRECT_CREDENTIALS, name)),
    ];
    let always = [
        Volume {
            name: VOLUME.to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: subject.claim().to_owned(),
                read_only: None,
            }),
            ..Volume::default()
        },
        Volume {
            name: "run".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(Quantity("1Mi".to_owned())),
            }),
            ..Volume::default()
        },
        Volume {
            name: "tmp".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: None,
                size_limit: Some(Quantity("1Gi".to_owned())),
            }),
            ..Volume::default()
        },
        Volume {
            name: "pod".to_owned(),
            downward_api: Some(DownwardAPIVolumeSource { items: Some(pod_info), default_mode: None }),
            ..Volume::default()
        },
    ];
    always.into_iter().chain(secrets.into_iter().flatten()).collect()
}

/// An annotation of the pod as a file.
fn annotation(file: &str, key: &str) -> DownwardAPIVolumeFile {
    DownwardAPIVolumeFile {
        path: file.to_owned(),
        field_ref: Some(ObjectFieldSelector {
            api_version: None,
            field_path: format!("metadata.annotations['{key}']"),
        }),
        ..DownwardAPIVolumeFile::default()
    }
}

/// Secret with the credential of the git remote.
pub(super) fn repository_secret(workspace: &UserWorkspace) -> Option<&str> {
    Some(workspace.spec.repository.as_ref()?.secret_ref.as_ref()?.name.as_str())
}

/// Secret with the hashes that a workspace of auth mode Direct checks its users by.
pub(super) fn direct_secret(workspace: &UserWorkspace) -> Option<&str> {
    Some(workspace.spec.auth.direct.as_ref()?.credentials_secret_ref.as_ref()?.name.as_str())
}

fn secret(volume: &str, name: &str) -> Volume {
    Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.to_owned()),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}
