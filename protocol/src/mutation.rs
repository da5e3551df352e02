//! Near misses for property tests of what parses outside input: a good text with one thing changed. Other crates'
//! tests include this file by its path.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Cases of each property, so that a run takes the same time everywhere.
pub(crate) const CASES: u32 = 2000;

/// One change of a text.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Another byte in place of one.
    Byte(Index, u8),
    /// One bit is turned over.
    Bit(Index, u8),
    /// A part is missing.
    Cut(Index, Index),
    /// A part stands twice.
    Twice(Index, Index),
    /// Something stands between.
    Insert(Index, &'static str),
}

/// Any change.
pub(crate) fn change() -> impl Strategy<Value = Change> {
    let foreign = vec![
        ".", "..", "=", "_", "-", "A", " ", "\n", "\0", "\"", "\\u0000", "{", "}", ",", "null", "%2E", "é",
    ];
    let place = any::<Index>;
    prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (place(), 0_u8..8).prop_map(|(at, bit)| Change::Bit(at, bit)),
        (place(), place()).prop_map(|(from, to)| Change::Cut(from, to)),
        (place(), place()).prop_map(|(from, to)| Change::Twice(from, to)),
        (place(), select(foreign)).prop_map(|(at, text)| Change::Insert(at, text)),
    ]
}

impl Change {
    /// The text with this change. It may be the same text.
    pub(crate) fn of(&self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        let part = |from: &Index, to: &Index| {
            let (from, to) = (from.index(text.len() + 1), to.index(text.len() + 1));
            from.min(to)..from.max(to)
        };
        match self {
            Self::Byte(at, byte) => {
                let at = at.index(text.len());
                text[at] = *byte;
            }
            Self::Bit(at, bit) => {
                let at = at.index(text.len());
                text[at] ^= 1 << bit;
            }
            Self::Cut(from, to) => drop(text.drain(part(from, to))),
            Self::Twice(from, to) => {
                let part = part(from, to);
                let again = text[part.clone()].to_vec();
                text.splice(part.end..part.end, again);
            }
            Self::Insert(at, foreign) => {
                let at = at.index(text.len() + 1);
                text.splice(at..at, foreign.bytes());
            }
        }
        text
    }

    /// The same, if it is text and another one.
    pub(crate) fn another(&self, text: &str) -> Option<String> {
        String::from_utf8(self.of(text.as_bytes())).ok().filter(|changed| changed != text)
    }
}
