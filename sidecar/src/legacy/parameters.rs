//! Arguments of tools that are mirrored in `Mcp-Param-*` headers (2026-07-28, basic/transports/streamable-http, Custom
//! Headers from Tool Parameters): which, by the tool's input schema, and with what value.

use std::collections::HashSet;

use http::{HeaderMap, HeaderName};
use serde_json::Value;

use crate::headers::mirrored;

const ANNOTATION: &str = "x-mcp-header";
const HEADER_PREFIX: &str = "mcp-param-";
/// Schemas that are nested deeper are not looked into.
const MOST_DEPTH: usize = 64;
/// The largest integer that a header may carry, up and down: that of JavaScript.
const MOST_INTEGER: f64 = 9_007_199_254_740_991.0;

/// Keywords of JSON Schema 2020-12 whose value is a schema, a list of schemas, or schemas by name.
const ONE: [&str; 11] = [
    "items",
    "contains",
    "unevaluatedItems",
    "additionalProperties",
    "propertyNames",
    "unevaluatedProperties",
    "not",
    "if",
    "then",
    "else",
    "contentSchema",
];
const LIST: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const NAMED: [&str; 4] = ["patternProperties", "dependentSchemas", "$defs", "definitions"];

/// An argument that is mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    /// Where it stands in the arguments.
    path: Vec<String>,
    header: HeaderName,
}

/// Why a tool's schema can't be used: clients must leave such a tool out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SchemaError {
    #[error("{ANNOTATION} stands where no chain of properties leads")]
    Place,
    #[error("{ANNOTATION} is no name of a header")]
    Name,
    #[error("{ANNOTATION} is for strings, integers and booleans alone")]
    Type,
    #[error("{ANNOTATION} names a header twice")]
    Twice,
}

/// The mirrored arguments of a tool.
pub(super) fn of_schema(schema: &Value) -> Result<Vec<Parameter>, SchemaError> {
    let mut found = Vec::new();
    look(schema, Some(&mut Vec::new()), 0, &mut found)?;
    let mut seen = HashSet::new();
    if found.iter().all(|parameter| seen.insert(&parameter.header)) {
        Ok(found)
    } else {
        Err(SchemaError::Twice)
    }
}

/// Looks into a schema. `path` is the chain of properties that leads there, nothing if another keyword is on the way.
fn look(
    schema: &Value,
    mut path: Option<&mut Vec<String>>,
    depth: usize,
    found: &mut Vec<Parameter>,
) -> Result<(), SchemaError> {
    let Value::Object(keywords) = schema else { return Ok(()) };
    if depth > MOST_DEPTH {
        return Ok(());
    }
    if let Some(name) = keywords.get(ANNOTATION) {
        let path = path.as_ref().filter(|path| !path.is_empty()).ok_or(SchemaError::Place)?;
        if !matches!(keywords.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean")) {
            return Err(SchemaError::Type);
        }
        let name = name.as_str().filter(|name| !name.is_empty()).ok_or(SchemaError::Name)?;
        let header = format!("{HEADER_PREFIX}{name}").parse().map_err(|_| SchemaError::Name)?;
        found.push(Parameter { path: (*path).clone(), header });
    }
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for (name, property) in properties {
                    match path.as_deref_mut() {
                        Some(path) => {
                            path.push(name.clone());
                            look(property, Some(path), depth + 1, found)?;
                            path.pop();
                        }
                        None => look(property, None, depth + 1, found)?,
                    }
                }
            }
            (one, value) if ONE.contains(&one) => look(value, None, depth + 1, found)?,
            (list, Value::Array(schemas)) if LIST.contains(&list) => {
                schemas.iter().try_for_each(|schema| look(schema, None, depth + 1, found))?;
            }
            (named, Value::Object(schemas)) if NAMED.contains(&named) => {
                schemas.values().try_for_each(|schema| look(schema, None, depth + 1, found))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Puts the headers of a call's arguments into its request.
pub(super) fn mirror(parameters: &[Parameter], arguments: &Value, headers: &mut HeaderMap) {
    for Parameter { path, header } in parameters {
        let value = path.iter().try_fold(arguments, |value, name| value.get(name));
        if let Some(text) = value.and_then(text) {
            headers.insert(header, mirrored(&text));
        }
    }
}

/// A value as it is mirrored, nothing for one that is not.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) => Some(value.to_string()),
        Value::Number(number) => Some(match number.as_f64() {
            // As a decimal, however it was written.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= MOST_INTEGER => {
                format!("{float:.0}")
            }
            _ => number.to_string(),
        }),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mirrored_of(schema: &Value, arguments: &Value) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        mirror(&of_schema(schema).unwrap(), arguments, &mut headers);
        let mut pairs: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
            .collect();
        pairs.sort_unstable();
        pairs
    }

    #[test]
    fn annotated_arguments_stand_in_headers_and_no_others() {
        let schema = json!({"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "query": {"type": "string"},
            "at": {"type": "object", "properties": {
                "page": {"type": "integer", "x-mcp-header": "Page"},
                "all": {"type": "boolean", "x-mcp-header": "All"},
            }},
            "none": {"type": "string", "x-mcp-header": "None"},
            "missing": {"type": "string", "x-mcp-header": "Missing"},
        }});
        let arguments =
            json!({"region": "us-west1", "query": "q", "at": {"page": 42.0, "all": true}, "none": null});
        let pairs = mirrored_of(&schema, &arguments);
        let expected =
            [("mcp-param-all", "true"), ("mcp-param-page", "42"), ("mcp-param-region", "us-west1")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(mirrored_of(&schema, &json!({"region": {"a": 1}, "at": "x"})), []);
        assert_eq!(mirrored_of(&schema, &Value::Null), []);
    }

    #[test]
    fn a_schema_that_clients_must_refuse_is_refused() {
        let property = |property: Value| json!({"properties": {"a": property}});
        for (schema, error) in [
            (json!({"type": "string", "x-mcp-header": "A"}), SchemaError::Place),
            (property(json!({"items": {"type": "string", "x-mcp-header": "A"}})), SchemaError::Place),
            (
                json!({"anyOf": [property(json!({"type": "string", "x-mcp-header": "A"}))]}),
                SchemaError::Place,
            ),
            (json!({"$defs": {"d": {"type": "string", "x-mcp-header": "A"}}}), SchemaError::Place),
            (property(json!({"type": "string", "x-mcp-header": ""})), SchemaError::Name),
            (property(json!({"type": "string", "x-mcp-header": "a b"})), SchemaError::Name),
            (property(json!({"type": "string", "x-mcp-header": 7})), SchemaError::Name),
            (property(json!({"type": "number", "x-mcp-header": "A"})), SchemaError::Type),
            (property(json!({"x-mcp-header": "A"})), SchemaError::Type),
            (
                json!({"properties": {
                    "a": {"type": "string", "x-mcp-header": "A"},
                    "b": {"type": "string", "x-mcp-header": "a"},
                }}),
                SchemaError::Twice,
            ),
        ] {
            assert_eq!(of_schema(&schema), Err(error), "{schema}");
        }
        let data = property(
            json!({"type": "object", "default": {"x-mcp-header": "A"}, "enum": [{"x-mcp-header": 1}]}),
        );
        assert_eq!(of_schema(&data), Ok(vec![]), "what is data is no schema");
        let deep = (0..200).fold(json!({"x-mcp-header": 1}), |inner, _| json!({"not": inner}));
        assert_eq!(of_schema(&deep), Ok(vec![]));
    }
}
