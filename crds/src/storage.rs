//! What a tier gives as storage and what a workspace may ask for in its place.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of the volume when the workspace is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetentionPolicy {
    /// The claim stays and is taken up again by the same user's next workspace of that name.
    #[default]
    Retain,
    /// The claim is deleted with the workspace.
    Delete,
}

/// Storage of the workspaces of a tier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TierStorage {
    /// Size of the volume, such as `1Gi`.
    #[x_kube(validation = Rule::new("isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))").message("size must be a quantity over 0, such as 1Gi"))]
    pub size: Quantity,
    /// Storage class of the claim. Left out: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// What becomes of the volume when the workspace is deleted: `Retain` (default) or `Delete`.
    #[serde(default)]
    pub retention_policy: RetentionPolicy,
}

/// Storage of one workspace where it differs from its tier's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageOverrides {
    /// Size of the volume, such as `1Gi`. Takes effect when the claim is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))").message("size must be a quantity over 0, such as 1Gi"))]
    pub size: Option<Quantity>,
    /// Storage class of the claim. Takes effect when the claim is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// What becomes of the volume when the workspace is deleted: `Retain` or `Delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_policy: Option<RetentionPolicy>,
}
