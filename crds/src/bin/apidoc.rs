//! Prints the reference of the resource types as Markdown: `apidoc > docs/api.md`.

use std::fmt::Write;

use dexorder_crds::{Duration, UserWorkspace, WorkspaceTier};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::schema_for;
use serde_json::Value;

/// Fields whose type is Kubernetes' own; its documentation describes what is in them.
const KUBERNETES_TYPES: [(&str, &str); 3] =
    [("conditions", "[]Condition"), ("resources", "ResourceRequirements"), ("tolerations", "[]Toleration")];

const INTRODUCTION: &str = "# API reference

Generated from the Rust types by `make generate`. On a cluster, `kubectl explain userworkspace.spec` says the same.
A duration is one to four numbers with a unit (`h`, `m`, `s`, `ms`), such as `15m` or `1h30m`.
";

fn main() -> Result<(), serde_json::Error> {
    let mut page = INTRODUCTION.to_owned();
    for crd in [UserWorkspace::crd(), WorkspaceTier::crd()] {
        page.push_str(&resource(&crd)?);
    }
    print!("{page}");
    Ok(())
}

fn resource(crd: &CustomResourceDefinition) -> Result<String, serde_json::Error> {
    let value = serde_json::to_value(crd)?;
    let spec = &value["spec"];
    let version = &spec["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut text = format!(
        "\n## {}\n\n{}\n\n- API version: `{}/{}`\n- Scope: {}\n- Names for kubectl: `{}`, `{}`\n",
        string(&spec["names"]["kind"]),
        string(&schema["description"]),
        string(&spec["group"]),
        string(&version["name"]),
        string(&spec["scope"]),
        string(&spec["names"]["plural"]),
        list(&spec["names"]["shortNames"], string).join("`, `"),
    );
    let selectable = list(&version["selectableFields"], |field| string(&field["jsonPath"]));
    if !selectable.is_empty() {
        let names: Vec<_> =
            selectable.iter().map(|path| format!("`{}`", path.trim_start_matches('.'))).collect();
        let _ = writeln!(text, "- Fields for `kubectl get --field-selector`: {}", names.join(", "));
    }
    for rule in list(&schema["x-kubernetes-validations"], |rule| string(&rule["message"])) {
        let _ = writeln!(text, "- Rule: {rule}");
    }
    for part in ["spec", "status"] {
        let object = &schema["properties"][part];
        if object.is_object() {
            let _ = write!(text, "\n### {part}\n\n{}\n\n", string(&object["description"]));
            text.push_str("| field | type | meaning |\n|---|---|---|\n");
            rows(object, "", &mut text);
        }
    }
    Ok(text)
}

/// One row for each field, its own fields after it.
fn rows(object: &Value, prefix: &str, text: &mut String) {
    let Some(properties) = object["properties"].as_object() else { return };
    let required = list(&object["required"], string);
    for (name, schema) in properties {
        let path = format!("{prefix}{name}");
        let known =
            KUBERNETES_TYPES.iter().find(|(field, _)| field == name).map(|(_, kind)| (*kind).to_owned());
        let kind = known.clone().unwrap_or_else(|| type_name(schema));
        let mut meaning = vec![string(&schema["description"])];
        meaning.extend(rules(schema));
        let needed = if required.contains(name) { " **needed**" } else { "" };
        let _ = writeln!(text, "| `{path}`{needed} | {kind} | {} |", cell(&meaning.join(" ")));
        if known.is_none() {
            rows(schema, &format!("{path}."), text);
            rows(&schema["items"], &format!("{path}[]."), text);
        }
    }
}

fn type_name(schema: &Value) -> String {
    let name = string(&schema["type"]);
    if schema["x-kubernetes-int-or-string"] == Value::Bool(true) {
        return "quantity".to_owned();
    }
    match name.as_str() {
        "array" => format!("[]{}", type_name(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", type_name(&schema["additionalProperties"]))
        }
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        "string" if is_duration(schema) => "duration".to_owned(),
        _ => name,
    }
}

/// What the schema asks of a value, in words.
fn rules(schema: &Value) -> Vec<String> {
    let mut words = Vec::new();
    let told_by_type = is_duration(schema);
    let choices = list(&schema["enum"], |choice| format!("`{}`", string(choice)));
    if !choices.is_empty() {
        words.push(format!("One of {}.", choices.join(", ")));
    }
    if let Some(default) = schema.get("default").filter(|default| **default != "") {
        words.push(format!(
            "Default: `{}`.",
            default.as_str().map_or_else(|| default.to_string(), str::to_owned)
        ));
    }
    for (least, most, unit) in [
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " entries"),
        ("minimum", "maximum", ""),
    ] {
        match (schema.get(least), schema.get(most)) {
            _ if told_by_type => {}
            (Some(least), Some(most)) => {
                words.push(format!("From {} to {}{unit}.", number(least), number(most)));
            }
            (Some(least), None) => words.push(format!("At least {}{unit}.", number(least))),
            (None, Some(most)) => words.push(format!("At most {}{unit}.", number(most))),
            (None, None) => {}
        }
    }
    if let Some(pattern) = schema["pattern"].as_str().filter(|_| !told_by_type) {
        words.push(format!("Matches `{pattern}`."));
    }
    words.extend(list(&schema["x-kubernetes-validations"], |rule| {
        format!("Rule: {}.", string(&rule["message"]))
    }));
    words
}

fn is_duration(schema: &Value) -> bool {
    schema["pattern"].is_string() && schema_for!(Duration).get("pattern") == schema.get("pattern")
}

/// Bounds of numbers are floats in the schema; whole ones are written as such.
fn number(value: &Value) -> String {
    value.to_string().trim_end_matches(".0").to_owned()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value, read: impl Fn(&Value) -> String) -> Vec<String> {
    value.as_array().into_iter().flatten().map(read).collect()
}
