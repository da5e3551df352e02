//! Small pieces of containers. [no client]

use std::collections::BTreeMap;

use dexorder_protocol::CONTROL_PORT;
use k8s_openapi::{
    api::core::v1::{
        Capabilities, ContainerPort, EnvVar, HTTPGetAction, Probe, SecurityContext, VolumeMount,
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};

/// What no container of a workspace has: privileges, a writable root, capabilities.
pub(super) fn restricted(user: i64) -> SecurityContext {
    SecurityContext {
        run_as_user: Some(user),
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

pub(super) fn env(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

pub(super) fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

pub(super) fn read_only(name: &str, path: &str) -> VolumeMount {
    VolumeMount { read_only: Some(true), ..mount(name, path) }
}

/// A folder of the volume.
pub(super) fn folder(folder: &str, path: &str) -> VolumeMount {
    VolumeMount { sub_path: Some(folder.to_owned()), ..mount(VOLUME, path) }
}

/// The workspace's volume among the pod's.
pub(super) const VOLUME: &str = "workspace";

pub(super) fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        ..ContainerPort::default()
    }
}

pub(super) fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(CONTROL_PORT)),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

pub(super) fn quantities(pairs: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    pairs.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect()
}
