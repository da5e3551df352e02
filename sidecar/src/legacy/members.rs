//! A JSON object of which few members matter: the others stay as they were written, and in their order.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// The members. No name stands there twice.
#[derive(Debug, Default)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

/// A value as JSON text.
pub(super) fn raw(value: &impl Serialize) -> Box<RawValue> {
    // What is written here are strings, numbers and trees of them, which can't fail.
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

impl<'a> Members<'a> {
    pub(super) fn parse(text: &'a RawValue) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text.get())
    }

    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_ref())
    }

    /// The value of a member that is a text.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        serde_json::from_str::<Text<'_>>(self.get(name)?.get()).ok().map(|text| text.0)
    }

    /// Puts a member in the place of the one of that name, or at the end.
    pub(super) fn set(&mut self, name: &'static str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = Cow::Owned(value),
            None => self.0.push((Cow::Borrowed(name), Cow::Owned(value))),
        }
    }

    /// Adds a member that is not there yet.
    pub(super) fn push(&mut self, name: String, value: Box<RawValue>) {
        self.0.push((Cow::Owned(name), Cow::Owned(value)));
    }

    /// Takes members out that are named by `drop`.
    pub(super) fn remove(&mut self, drop: &[&str]) {
        self.0.retain(|(name, _)| !drop.contains(&name.as_ref()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                #[derive(Deserialize)]
                struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((name.0, Cow::Borrowed(value)));
                }
                let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
                names.sort_unstable();
                if names.windows(2).any(|pair| pair[0] == pair[1]) {
                    return Err(M::Error::custom("a member stands there twice"));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value.as_ref())?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_stays_as_it_was_written() {
        let text = r#"{"z":12345678901234567890123,"a":{"y":1.0,"b":[ 1 ]},"\u0063":"x"}"#;
        let mut members: Members<'_> = serde_json::from_str(text).unwrap();
        members.set("new", raw(&7));
        members.set("c", raw(&"d"));
        members.remove(&["a"]);
        assert_eq!(
            serde_json::to_string(&members).unwrap(),
            r#"{"z":12345678901234567890123,"c":"d","new":7}"#
        );
        assert_eq!(members.text("c").as_deref(), Some("d"));
        assert_eq!((members.text("new"), members.text("none")), (None, None));
    }

    #[test]
    fn a_member_that_stands_there_twice_is_an_error() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, "[]", "1", "null"] {
            assert!(serde_json::from_str::<Members<'_>>(text).is_err(), "{text}");
        }
    }
}
