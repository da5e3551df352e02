//! Objects as the API server takes and gives them.

use http::StatusCode;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub(super) fn read<K: DeserializeOwned>(body: &Value) -> K {
    serde_json::from_value(body.clone()).unwrap()
}

pub(super) fn found(object: Option<&impl Serialize>) -> Result<Value, StatusCode> {
    object.map(|object| json!(object)).ok_or(StatusCode::NOT_FOUND)
}

/// A merge patch of the metadata.
pub(super) fn patch<K: Serialize + DeserializeOwned>(
    object: Option<&mut K>,
    body: &Value,
) -> Result<Value, StatusCode> {
    let object = object.ok_or(StatusCode::NOT_FOUND)?;
    let mut value = json!(object);
    if body["metadata"]["uid"].as_str().is_some_and(|uid| value["metadata"]["uid"] != uid) {
        return Err(StatusCode::CONFLICT);
    }
    merge(&mut value, body);
    *object = serde_json::from_value(value.clone()).unwrap();
    Ok(value)
}

/// Applies a merge patch: what is null goes (RFC 7396).
pub(super) fn merge(value: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *value = patch.clone();
        return;
    };
    for (name, field) in fields {
        if field.is_null() {
            if let Some(object) = value.as_object_mut() {
                object.remove(name);
            }
        } else {
            merge(&mut value[name], field);
        }
    }
}
