//! The known workspaces by user and by name, and a signal for whoever waits for one to change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use super::record::Workspace;

/// A user's workspace, if there is one. Receivers wake up at each change.
pub(crate) type Subscription = watch::Receiver<Option<Arc<Workspace>>>;

/// Which workspace is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// That of a user.
    User(String),
    /// The one of this name, whoever's it is.
    Named(String),
}

/// All known workspaces.
#[derive(Default)]
pub(crate) struct Index {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_name: HashMap<String, Arc<Workspace>>,
    by_user: HashMap<String, Entry>,
    /// Who waits for a workspace by its name.
    named: HashMap<String, watch::Sender<Option<Arc<Workspace>>>>,
    /// How many belong to anonymous visitors.
    anonymous: usize,
    /// The latest version that the watch has told of.
    seen: Option<u64>,
    /// The list in the making, while the watch starts anew.
    listing: Option<BTreeMap<String, Workspace>>,
}

/// The workspaces of one user, the one that counts first, and who waits for it.
struct Entry {
    names: BTreeSet<(Timestamp, String)>,
    signal: watch::Sender<Option<Arc<Workspace>>>,
}

impl Index {
    /// The workspace that is meant: of a user the oldest, if there are several.
    pub(crate) fn current(&self, target: &Target) -> Option<Arc<Workspace>> {
        let inner = self.lock();
        match target {
            Target::User(user) => inner.by_user.get(user).and_then(|entry| entry.signal.borrow().clone()),
            Target::Named(name) => inner.by_name.get(name).cloned(),
        }
    }

    /// Follows a workspace, whether it exists yet or not.
    pub(crate) fn subscribe(&self, target: &Target) -> Subscription {
        let mut inner = self.lock();
        inner.forget_abandoned();
        match target {
            Target::User(user) => {
                inner.by_user.entry(user.clone()).or_insert_with(Entry::new).signal.subscribe()
            }
            Target::Named(name) => {
                let current = inner.by_name.get(name).cloned();
                inner.named.entry(name.clone()).or_insert_with(|| watch::Sender::new(current)).subscribe()
            }
        }
    }

    /// Takes a state of a workspace from the watch, unless a later one is known.
    pub(crate) fn apply(&self, workspace: Workspace) {
        self.lock().observe(workspace);
    }

    /// Takes a state that the API server answered with. If the watch has told of that state before and the workspace is
    /// not known, then it was deleted while the answer was on its way.
    pub(crate) fn apply_answer(&self, workspace: Workspace) {
        let mut inner = self.lock();
        let known = inner.by_name.get(&workspace.name).is_some_and(|known| known.uid == workspace.uid);
        let told = workspace.version().is_some_and(|version| Some(version) <= inner.seen);
        if known || !told {
            inner.apply(workspace);
        }
    }

    pub(crate) fn delete(&self, name: &str) {
        self.lock().delete(name);
    }

    /// A new list begins; what is known stays in use until it is complete.
    pub(crate) fn begin_list(&self) {
        self.lock().listing = Some(BTreeMap::new());
    }

    pub(crate) fn add_to_list(&self, workspace: Workspace) {
        let mut inner = self.lock();
        match &mut inner.listing {
            Some(listing) => {
                listing.insert(workspace.name.clone(), workspace);
            }
            None => inner.observe(workspace),
        }
    }

    /// The list is complete: what it does not hold is gone.
    pub(crate) fn end_list(&self) {
        let mut inner = self.lock();
        let Some(listing) = inner.listing.take() else {
            return;
        };
        let gone: Vec<String> =
            inner.by_name.keys().filter(|name| !listing.contains_key(*name)).cloned().collect();
        for name in gone {
            inner.delete(&name);
        }
        for workspace in listing.into_values() {
            inner.observe(workspace);
        }
    }

    /// How many workspaces are known.
    pub(crate) fn len(&self) -> usize {
        self.lock().by_name.len()
    }

    /// How many workspaces of anonymous visitors are known.
    pub(crate) fn anonymous(&self) -> usize {
        self.lock().anonymous
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn observe(&mut self, workspace: Workspace) {
        self.seen = self.seen.max(workspace.version());
        self.apply(workspace);
    }

    fn apply(&mut self, workspace: Workspace) {
        if let Some(known) = self.by_name.get(&workspace.name) {
            if workspace.is_older_than(known) {
                return;
            }
            if known.user != workspace.user || known.created != workspace.created {
                self.delete(&workspace.name);
            }
        }
        let workspace = Arc::new(workspace);
        let (name, user) = (workspace.name.clone(), workspace.user.clone());
        let entry = self.by_user.entry(user.clone()).or_insert_with(Entry::new);
        entry.names.insert((workspace.created, name.clone()));
        self.anonymous += usize::from(workspace.is_anonymous());
        if let Some(before) = self.by_name.insert(name.clone(), workspace) {
            self.anonymous -= usize::from(before.is_anonymous());
        }
        self.signal(&user);
        self.signal_named(&name);
    }

    fn delete(&mut self, name: &str) {
        let Some(known) = self.by_name.remove(name) else {
            return;
        };
        self.anonymous -= usize::from(known.is_anonymous());
        if let Some(entry) = self.by_user.get_mut(&known.user) {
            entry.names.remove(&(known.created, name.to_owned()));
        }
        self.signal(&known.user);
        self.signal_named(name);
    }

    /// Tells who waits for a workspace by its name.
    fn signal_named(&mut self, name: &str) {
        let Some(signal) = self.named.get(name) else {
            return;
        };
        let now = self.by_name.get(name);
        signal.send_if_modified(|current| {
            let changed = current.as_ref() != now;
            *current = now.cloned();
            changed
        });
        if signal.receiver_count() == 0 {
            self.named.remove(name);
        }
    }

    /// Tells who waits, if the user's workspace has changed.
    fn signal(&mut self, user: &str) {
        let Some(entry) = self.by_user.get(user) else {
            return;
        };
        let first = entry.names.first().and_then(|(_, name)| self.by_name.get(name)).cloned();
        entry.signal.send_if_modified(|current| {
            let changed = *current != first;
            current.clone_from(&first);
            changed
        });
        if first.is_none() && entry.signal.receiver_count() == 0 {
            self.by_user.remove(user);
        }
    }

    /// Users without a workspace for whom nobody waits any more, and names that nobody waits for. There are few: at most
    /// one for each failed creation, and one for each workspace that was reached by name.
    fn forget_abandoned(&mut self) {
        if self.named.len() > 1_000 {
            self.named.retain(|_, signal| signal.receiver_count() > 0);
        }
        if self.by_user.len() > self.by_name.len() + 1_000 {
            self.by_user.retain(|_, entry| !entry.names.is_empty() || entry.signal.receiver_count() > 0);
        }
    }
}

impl Entry {
    fn new() -> Self {
        Self { names: BTreeSet::new(), signal: watch::Sender::new(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspaces::testing::workspace;

    fn dated(name: &str, user: &str, second: i64) -> Workspace {
        Workspace { created: Timestamp::from_second(second).unwrap(), ..workspace(name, user) }
    }

    fn user(name: &str) -> Target {
        Target::User(name.to_owned())
    }

    fn name(index: &Index, of: &str) -> Option<String> {
        index.current(&user(of)).map(|workspace| workspace.name.clone())
    }

    #[test]
    fn the_oldest_workspace_of_a_user_counts_then_the_name() {
        let index = Index::default();
        index.apply(dated("b", "u", 20));
        index.apply(dated("c", "u", 10));
        index.apply(dated("a", "u", 20));
        assert_eq!(name(&index, "u").as_deref(), Some("c"));
        index.delete("c");
        assert_eq!(name(&index, "u").as_deref(), Some("a"));
        index.delete("a");
        index.delete("b");
        assert_eq!(name(&index, "u"), None);
    }

    #[test]
    fn an_answer_that_comes_after_the_deletion_does_not_bring_the_workspace_back() {
        let index = Index::default();
        let at = |version: &str, uid: &str| Workspace {
            resource_version: version.to_owned(),
            uid: uid.to_owned(),
            ..workspace("w", "u")
        };
        index.apply_answer(at("10", "first"));
        assert_eq!(name(&index, "u").as_deref(), Some("w"), "the answer is before the watch");
        index.apply(at("10", "first"));
        index.delete("w");
        index.apply_answer(at("10", "first"));
        assert_eq!(name(&index, "u"), None);
        index.apply(at("12", "second"));
        index.apply_answer(at("10", "first"));
        assert_eq!(index.current(&user("u")).unwrap().uid, "second");
        index.apply_answer(at("13", "second"));
        assert_eq!(index.current(&user("u")).unwrap().resource_version, "13");
    }

    #[tokio::test]
    async fn who_waits_is_told_of_changes_of_the_own_workspace_alone() {
        let index = Index::default();
        let mut mine = index.subscribe(&user("me"));
        index.apply(workspace("other", "someone"));
        assert!(!mine.has_changed().unwrap());
        index.apply(workspace("mine", "me"));
        mine.changed().await.unwrap();
        assert_eq!(mine.borrow_and_update().as_ref().unwrap().name, "mine");
        index.apply(workspace("mine", "me"));
        assert!(!mine.has_changed().unwrap(), "nothing has changed");
        index.delete("mine");
        mine.changed().await.unwrap();
        assert!(mine.borrow().is_none());
    }

    #[test]
    fn an_older_state_does_not_replace_a_newer_one() {
        let index = Index::default();
        let at = |version: &str, touched: &str| Workspace {
            resource_version: version.to_owned(),
            touched: Some(touched.to_owned()),
            ..workspace("w", "u")
        };
        index.apply(at("10", "new"));
        index.apply(at("9", "old"));
        assert_eq!(index.current(&user("u")).unwrap().touched.as_deref(), Some("new"));
        let again = Workspace { uid: "another".to_owned(), ..at("8", "made anew") };
        index.apply(again);
        assert_eq!(index.current(&user("u")).unwrap().touched.as_deref(), Some("made anew"));
    }

    #[test]
    fn a_new_list_replaces_what_is_known_all_at_once() {
        let index = Index::default();
        index.apply(workspace("kept", "u1"));
        index.apply(workspace("gone", "u2"));
        index.begin_list();
        index.add_to_list(workspace("kept", "u1"));
        index.add_to_list(workspace("new", "u3"));
        assert!(index.current(&user("u2")).is_some() && index.current(&user("u3")).is_none());
        index.end_list();
        assert!(
            index.current(&user("u1")).is_some()
                && index.current(&user("u2")).is_none()
                && index.current(&user("u3")).is_some()
        );
        assert_eq!(index.len(), 2);
    }

    #[test]
    fn users_who_wait_for_nothing_leave_nothing_behind() {
        let index = Index::default();
        for number in 0..5_000 {
            drop(index.subscribe(&user(&format!("user-{number}"))));
        }
        assert!(index.lock().by_user.len() <= 1_001);
    }

    #[tokio::test]
    async fn a_workspace_is_followed_by_its_name_too() {
        let index = Index::default();
        let named = Target::Named("w".to_owned());
        let mut changes = index.subscribe(&named);
        index.apply(workspace("other", "u"));
        assert!(!changes.has_changed().unwrap() && index.current(&named).is_none());
        index.apply(workspace("w", "u"));
        changes.changed().await.unwrap();
        assert_eq!(changes.borrow_and_update().as_ref().unwrap().user, "u");
        index.delete("w");
        changes.changed().await.unwrap();
        assert!(changes.borrow_and_update().is_none());
        drop(changes);
        index.apply(workspace("w", "u"));
        assert!(index.lock().named.is_empty());
        assert!(index.subscribe(&named).borrow().is_some());
    }

    #[test]
    fn the_workspaces_of_visitors_are_counted() {
        let index = Index::default();
        index.apply(workspace("a", "anonymous:1"));
        index.apply(workspace("b", "anonymous:2"));
        index.apply(workspace("a", "anonymous:1"));
        index.apply(workspace("c", "user"));
        assert_eq!(index.anonymous(), 2);
        index.begin_list();
        index.add_to_list(workspace("b", "anonymous:2"));
        index.end_list();
        assert_eq!(index.anonymous(), 1);
        index.delete("b");
        assert_eq!(index.anonymous(), 0);
    }
}
