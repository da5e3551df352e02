//! Labels, annotations and names that the programs agree on.

/// Annotation on a `UserWorkspace` that wakes it: any new value counts, RFC 3339 with microseconds is what the
/// gateway writes. ArgoCD does not count annotations as drift.
pub const TOUCHED_AT: &str = "dexorder.io/touched-at";
/// Annotation on a `UserWorkspace`: it is not stopped for idleness before this time (RFC 3339).
pub const KEEP_AWAKE_UNTIL: &str = "dexorder.io/keep-awake-until";
/// Label on pods and claims: the name of the workspace that they belong to.
pub const WORKSPACE_LABEL: &str = "dexorder.io/workspace";
/// Annotation on a `UserWorkspace` of auth mode Direct: each new value has the workspace make another key, once.
pub const ROTATE_DIRECT_KEY: &str = "dexorder.io/rotate-direct-key";
/// Label with the value `true` on the workspaces of anonymous visitors. They are removed after their tier's `maxLifetime`.
pub const ANONYMOUS_LABEL: &str = "dexorder.io/anonymous";
/// Label on a `UserWorkspace`: the operator that serves it, as its `--operator-name` has it. Without the label it is served
/// by the operator without a name. So another version of the operator can be tried with some workspaces.
pub const OPERATOR_LABEL: &str = "dexorder.io/operator";
/// Label on pods: the name of the workspace's tier.
pub const TIER_LABEL: &str = "dexorder.io/tier";
/// Label on pods: what they may reach, `None`, `Web` or `Any`.
pub const EGRESS_LABEL: &str = "dexorder.io/egress";
/// Label on the pods and claims of the warm pool while they are free: the tier whose pool they are in.
pub const POOL_LABEL: &str = "dexorder.io/pool";
/// Annotation on a pod of the warm pool: the workspace that it was given to, as JSON.
pub const ASSIGNMENT: &str = "dexorder.io/assignment";
/// Annotation on claims: the user whose data is on the volume.
pub const USER_ID: &str = "dexorder.io/user-id";
/// Annotation on claims: the auth mode of the workspace that last used the volume. `Direct` stays until somebody changes it.
pub const AUTH_MODE: &str = "dexorder.io/auth-mode";
/// Annotation of the scheduler on claims: the node for which the volume was made.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Annotation on pods: the public keys that the sidecar trusts, as JSON.
pub const IDENTITY_KEYS: &str = "dexorder.io/identity-keys";
/// Annotation on pods: hash of what the pod was made from.
pub const TEMPLATE_HASH: &str = "dexorder.io/template-hash";
/// `app.kubernetes.io/name` of everything that belongs to a workspace.
pub const APP_NAME: &str = "dexorder-workspace";
/// `app.kubernetes.io/managed-by` of everything that the operator makes.
pub const MANAGED_BY: &str = "dexorder-operator";
/// Field manager of the operator's server-side apply.
pub const FIELD_MANAGER: &str = "dexorder-operator";

/// Name of the pod and of the claim of a workspace. One that was taken over from the warm pool keeps its own.
pub fn child_name(workspace: &str) -> String {
    format!("ws-{workspace}")
}

/// Name of the pod and of the claim of a member of a tier's warm pool.
pub fn member_name(tier: &str, number: u32) -> String {
    format!("pool-{tier}-{number}")
}

/// Tier and number of the member that has this name.
pub fn member_of(name: &str) -> Option<(&str, u32)> {
    let (tier, number) = name.strip_prefix("pool-")?.rsplit_once('-')?;
    let number = number.parse().ok()?;
    (member_name(tier, number) == name).then_some((tier, number))
}
