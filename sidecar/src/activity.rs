//! What runs now and when something last happened. Plain bookkeeping: it reads no clock and takes no lock.

use jiff::Timestamp;

/// What a request is to the life of the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Work. It keeps the workspace awake.
    Call,
    /// A client that listens for news on an open stream. It doesn't: else a forgotten client would hold the
    /// workspace forever.
    Listen,
}

/// The counts and the last moment of activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Calls that run.
    pub(crate) in_flight: u32,
    /// Streams that only listen.
    pub(crate) open_streams: u32,
    /// When a call last began, ended or carried something.
    pub(crate) last: Timestamp,
    /// When a call was first answered by the agent.
    pub(crate) first_answer: Option<Timestamp>,
}

impl Activity {
    /// Nothing has happened since `start`.
    pub(crate) const fn new(start: Timestamp) -> Self {
        Self { in_flight: 0, open_streams: 0, last: start, first_answer: None }
    }

    /// A request begins.
    pub(crate) fn begin(&mut self, kind: Kind, now: Timestamp) {
        match kind {
            Kind::Call => {
                self.in_flight += 1;
                self.touch(kind, now);
            }
            Kind::Listen => self.open_streams += 1,
        }
    }

    /// A request has ended, in whatever way.
    pub(crate) fn end(&mut self, kind: Kind, now: Timestamp) {
        match kind {
            Kind::Call => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.touch(kind, now);
            }
            Kind::Listen => self.open_streams = self.open_streams.saturating_sub(1),
        }
    }

    /// The agent has answered a request.
    pub(crate) fn answer(&mut self, kind: Kind, now: Timestamp) {
        if kind == Kind::Call {
            self.first_answer.get_or_insert(now);
        }
    }

    /// Something passed. A clock that was set back never makes the workspace look more idle than it is.
    pub(crate) fn touch(&mut self, kind: Kind, now: Timestamp) {
        if kind == Kind::Call {
            self.last = self.last.max(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_call_counts_from_its_begin_to_its_end() {
        let mut activity = Activity::new(at(100));
        activity.begin(Kind::Call, at(110));
        assert_eq!(activity, Activity { in_flight: 1, last: at(110), ..Activity::new(at(100)) });
        activity.touch(Kind::Call, at(115));
        activity.end(Kind::Call, at(120));
        assert_eq!(activity, Activity::new(at(120)));
    }

    #[test]
    fn a_listening_stream_is_counted_apart_and_is_no_activity() {
        let mut activity = Activity::new(at(100));
        activity.begin(Kind::Listen, at(110));
        activity.touch(Kind::Listen, at(115));
        assert_eq!(activity, Activity { open_streams: 1, ..Activity::new(at(100)) });
        activity.end(Kind::Listen, at(120));
        assert_eq!(activity, Activity::new(at(100)));
    }

    #[test]
    fn the_first_answer_is_that_of_a_call_and_stays_the_first() {
        let mut activity = Activity::new(at(100));
        activity.answer(Kind::Listen, at(105));
        assert_eq!(activity.first_answer, None);
        activity.answer(Kind::Call, at(110));
        activity.answer(Kind::Call, at(120));
        assert_eq!(activity.first_answer, Some(at(110)));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_take_activity_back() {
        let mut activity = Activity::new(at(100));
        activity.begin(Kind::Call, at(50));
        assert_eq!(activity.last, at(100));
    }
}
