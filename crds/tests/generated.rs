//! What is generated from the types is what is committed: `make generate` writes it anew.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::path::Path;
use std::process::Command;

fn assert_committed(program: &str, arguments: &[&str], file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let committed = std::fs::read_to_string(path).unwrap();
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let generated = String::from_utf8(output.stdout).unwrap();
    let differs = generated.lines().zip(committed.lines()).find(|(new, old)| new != old);
    assert_eq!(differs, None, "{file} is not what the types say: run `make generate`");
    assert!(generated == committed, "{file} is not what the types say: run `make generate`");
}

#[test]
fn the_definitions_are_those_of_the_types() {
    for kind in ["userworkspaces", "workspacetiers"] {
        assert_committed(env!("CARGO_BIN_EXE_crdgen"), &[kind], &format!("crds/generated/{kind}.yaml"));
    }
}

#[test]
fn the_api_reference_is_that_of_the_types() {
    assert_committed(env!("CARGO_BIN_EXE_apidoc"), &[], "docs/api.md");
}
