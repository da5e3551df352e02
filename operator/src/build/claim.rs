//! The claim of a workspace: the volume with the user's repository. [no client]

use std::collections::BTreeMap;

use dexorder_crds::{RetentionPolicy, UserWorkspace, keys};
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Member, PodFor, owner, pod::hash};
use crate::plan::Terms;

/// Builds the claim. `ReadWriteOncePod`: the cluster itself sees to it that never two pods use the volume.
pub fn claim(workspace: &UserWorkspace, terms: &Terms) -> PersistentVolumeClaim {
    let owners = match terms.retention {
        RetentionPolicy::Retain => None,
        RetentionPolicy::Delete => owner(workspace).map(|owner| vec![owner]),
    };
    let metadata = ObjectMeta {
        annotations: Some(BTreeMap::from([
            (keys::USER_ID.to_owned(), workspace.spec.user_id.clone()),
            (keys::AUTH_MODE.to_owned(), workspace.spec.auth.mode.as_str().to_owned()),
        ])),
        owner_references: owners,
        ..PodFor::Workspace(workspace, "").metadata()
    };
    of_terms(metadata, terms)
}

/// Builds the claim of a member of the warm pool: nobody's yet.
pub fn member_claim(member: &Member, terms: &Terms) -> PersistentVolumeClaim {
    let mut claim = of_terms(PodFor::Member(member).metadata(), terms);
    let made_of = hash(&claim.spec);
    claim.metadata.annotations = Some(BTreeMap::from([(keys::TEMPLATE_HASH.to_owned(), made_of)]));
    claim
}

fn of_terms(metadata: ObjectMeta, terms: &Terms) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOncePod".to_owned()]),
            storage_class_name: terms.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), terms.storage_size.clone())])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
