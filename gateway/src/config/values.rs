//! Readers of single values of the configuration, and the list of those that can't be used.

use http::Uri;

/// Collects what is wrong, one line for each value.
#[derive(Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, place: &str, what: &str) {
        self.0.push(format!("{place} {what}"));
    }

    /// Passes a value on, or notes what was expected in its place.
    pub(super) fn take<T>(&mut self, place: &str, text: &str, expected: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.add(place, &format!("is {text:?}: expected {expected}"));
        }
        value
    }

    /// What `build` makes if nothing is wrong.
    pub(super) fn finish<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, Vec<String>> {
        if self.0.is_empty() { build().ok_or(self.0) } else { Err(self.0) }
    }
}

/// A URL without path, query or credentials; the result has no slash at its end.
pub(super) fn public_url(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let plain = matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
    let web = matches!(uri.scheme_str(), Some("http" | "https"));
    (plain && web && !text.contains('#')).then(|| text.trim_end_matches('/').to_owned())
}

/// The origin of a web page in the form that browsers send.
pub(super) fn origin(text: &str) -> Option<String> {
    (!text.ends_with('/')).then(|| public_url(text)).flatten().map(|origin| origin.to_ascii_lowercase())
}

/// A name as Kubernetes takes it for namespaces and tiers.
pub(super) fn label(text: &str) -> Option<String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = (1..=63).contains(&text.len()) && text.chars().all(inner);
    (fits && !text.starts_with('-') && !text.ends_with('-')).then(|| text.to_owned())
}

/// A number of bytes: `512KiB`, `4MiB` or plain digits.
pub(super) fn byte_size(text: &str) -> Option<usize> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(end) => text.split_at(end),
        None => (text, ""),
    };
    let factor = match unit {
        "" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(factor)
}
