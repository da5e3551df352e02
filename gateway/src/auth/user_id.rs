//! Which user IDs a credential may stand for.

use dexorder_protocol::identity::{ANONYMOUS_SUBJECT, GATEWAY_SUBJECT, VISITOR_PREFIX};

/// What a resource takes as `spec.userId`.
const MOST_CHARACTERS: usize = 253;

/// Whether a text can be a user's ID and is none that the platform keeps for itself: those of visitors, and the
/// subjects that say how a request came in place of whose it is.
pub(super) fn is_free(user: &str) -> bool {
    let fits = (1..=MOST_CHARACTERS).contains(&user.chars().count());
    let plain = !user.chars().any(|c| c.is_whitespace() || c.is_control());
    fits && plain && !is_reserved(user)
}

/// Whether it is kept for the platform.
pub(super) fn is_reserved(user: &str) -> bool {
    user.starts_with(VISITOR_PREFIX) || [ANONYMOUS_SUBJECT, GATEWAY_SUBJECT].contains(&user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_platform_keeps_for_itself_is_nobodys() {
        for user in ["anonymous:0", "anonymous", "gateway", "", "a b", "a\n", &"x".repeat(254)] {
            assert!(!is_free(user), "{user}");
        }
        for user in ["trader1", "anonymous-trader", "Jane.Doe@example.com", "用户"] {
            assert!(is_free(user), "{user}");
        }
    }
}
