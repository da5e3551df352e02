//! Prints a custom resource definition as YAML: `crdgen userworkspaces` or `crdgen workspacetiers`.

use std::process::ExitCode;

use dexorder_crds::{UserWorkspace, WorkspaceTier};
use kube::CustomResourceExt;

fn main() -> ExitCode {
    let crd = match std::env::args().nth(1).as_deref() {
        Some("userworkspaces") => UserWorkspace::crd(),
        Some("workspacetiers") => WorkspaceTier::crd(),
        _ => {
            eprintln!("usage: crdgen userworkspaces|workspacetiers");
            return ExitCode::from(64);
        }
    };
    match serde_yaml::to_string(&crd) {
        Ok(yaml) => {
            print!(
                "# Generated from the Rust types by crdgen. Change the types and run `make generate`.\n{yaml}"
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("failed to write the definition as YAML: {error}");
            ExitCode::FAILURE
        }
    }
}
