//! The name of a workspace that is made for a user.

use dexorder_protocol::hex;
use sha2::{Digest, Sha256};

const MAX_SLUG: usize = 30;
const HASH_BYTES: usize = 5;

/// A readable part of the user ID and a hash of all of it.
pub(super) fn for_user(user: &str) -> String {
    let mut slug = String::new();
    for c in user.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(MAX_SLUG);
    let slug = match slug.trim_end_matches('-') {
        "" => "user",
        slug => slug,
    };
    format!("{slug}-{}", hex(&Sha256::digest(user)[..HASH_BYTES]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_like_its_user_and_fits_kubernetes() {
        // The hash is what `printf trader1 | sha256sum` begins with.
        assert_eq!(for_user("trader1"), "trader1-be63fb5641");
        for (user, slug) in [
            ("Jane.Doe@Example.com", "jane-doe-example-com-"),
            ("auth0|64|x", "auth0-64-x-"),
            ("---", "user-"),
            ("用户", "user-"),
            (&"a".repeat(253), &format!("{}-", "a".repeat(30))),
            (&format!("{}!!b", "a".repeat(29)), &format!("{}-", "a".repeat(29))),
        ] {
            let name = for_user(user);
            assert!(name.starts_with(slug), "{user}: {name}");
            assert_eq!(name.len(), slug.len() + 10);
            assert!(name.len() <= 50);
        }
    }

    #[test]
    fn users_who_read_alike_get_different_names() {
        assert_ne!(for_user("a.b"), for_user("a-b"));
        assert_ne!(for_user("A"), for_user("a"));
    }
}
