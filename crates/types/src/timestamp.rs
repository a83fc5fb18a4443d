//! Time as ZODB puts it into a tid: minutes in the high half, a fraction of a minute in the low half.

use crate::Tid;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment in UTC, as a duration since 1970-01-01.
///
/// Converts to and from tids as `persistent.TimeStamp` does: the high 32 bits of a tid are
/// `((((year-1900)*12 + month-1)*31 + day-1)*24 + hour)*60 + minute`, the low 32 bits are
/// `seconds * 2^32 / 60`, cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The moment `since_epoch` after 1970-01-01 UTC.
    #[must_use]
    pub const fn from_epoch(since_epoch: Duration) -> Self {
        Self(since_epoch)
    }

    /// The moment so many seconds after 1970-01-01 UTC, or the nearest one between 1970 and the year 9999.
    #[must_use]
    pub fn from_secs_f64(seconds: f64) -> Self {
        let seconds = if seconds.is_nan() { 0.0 } else { seconds.clamp(0.0, YEAR_9999_ENDS) };
        Self(Duration::from_secs_f64(seconds))
    }

    /// Seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0.as_secs_f64()
    }

    /// The seconds since 1970 of a tid, to the last bit as `persistent.TimeStamp.timeTime` computes them.
    ///
    /// It adds up in doubles from 1901 on, and clients compare what it gives for equality.
    #[must_use]
    pub fn tid_seconds(tid: Tid) -> f64 {
        let minutes = tid.get() >> 32;
        let (day, months) = (minutes / (24 * 60) % 31, minutes / (24 * 60) / 31);
        let days = days_from_civil(months / 12 + 1900, months % 12 + 1, 1) + day as i64;
        let whole = (days - DAYS_OF_1901) * SECONDS_PER_DAY as i64 + (minutes % (24 * 60) * 60) as i64;
        let fraction = (tid.get() & 0xffff_ffff) as f64 * (60.0 / 65_536.0 / 65_536.0);
        (whole as f64 + fraction) - (-DAYS_OF_1901 * SECONDS_PER_DAY as i64) as f64
    }

    /// The duration since 1970-01-01 UTC.
    #[must_use]
    pub const fn since_epoch(self) -> Duration {
        self.0
    }

    /// The tid of this moment.
    #[must_use]
    pub fn to_tid(self) -> Tid {
        let seconds = self.0.as_secs();
        let (year, month, day) = civil_from_days(seconds / SECONDS_PER_DAY);
        let minute_of_day = seconds % SECONDS_PER_DAY / 60;
        let days = (year.saturating_sub(1900) * 12 + month - 1) * 31 + day - 1;
        let minutes = days * 24 * 60 + minute_of_day;
        let nanos_in_minute = (seconds % 60) * NANOS_PER_SECOND + u64::from(self.0.subsec_nanos());
        // `persistent` computes in doubles and cuts off; exact integers differ from it by at most one step.
        let fraction = (u128::from(nanos_in_minute) << 32) / u128::from(60 * NANOS_PER_SECOND);
        Tid::new((minutes << 32) | fraction as u64)
    }

    /// The moment that a tid names. Days beyond a month's end run into the next month.
    #[must_use]
    pub fn from_tid(tid: Tid) -> Self {
        let minutes = tid.get() >> 32;
        let minute_of_day = minutes % (24 * 60);
        let days = minutes / (24 * 60);
        let (day, months) = (days % 31, days / 31);
        let (month, year) = (months % 12 + 1, months / 12 + 1900);
        let epoch_days = days_from_civil(year, month, 1) + day as i64;
        let nanos = (u128::from(tid.get() & 0xffff_ffff) * u128::from(60 * NANOS_PER_SECOND)) >> 32;
        let seconds = epoch_days * SECONDS_PER_DAY as i64 + (minute_of_day * 60) as i64;
        Self(Duration::from_secs(seconds.max(0) as u64) + Duration::from_nanos(nanos as u64))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

impl Tid {
    /// The tid of `now`, or the next one after `last` if the clock has not got past `last`.
    ///
    /// This is what keeps tids rising when the clock steps back (`TimeStamp.laterThan`).
    #[must_use]
    pub fn later_than(self, last: Self) -> Self {
        if self > last {
            return self;
        }
        let (minutes, fraction) = (last.get() >> 32, last.get() & 0xffff_ffff);
        if fraction == 0xffff_ffff {
            return Self::new(next_minute(minutes) << 32);
        }
        Self::new(last.get() + 1)
    }
}

/// The minute after `minutes`, skipping the days that a month does not have.
fn next_minute(minutes: u64) -> u64 {
    let end_of_day = minutes % (24 * 60) == 24 * 60 - 1;
    let days = minutes / (24 * 60);
    let (day, months) = (days % 31, days / 31);
    let last_day = days_in_month(months / 12 + 1900, months % 12 + 1);
    if end_of_day && day + 1 >= last_day { (months + 1) * 31 * 24 * 60 } else { minutes + 1 }
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn days_from_civil(year: u64, month: u64, day: u64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era) as i64 - 719_468
}

/// 1901-01-01, in days since 1970-01-01.
const DAYS_OF_1901: i64 = -25_202;
const SECONDS_PER_DAY: u64 = 86_400;
/// 9999-12-31 23:59:59 UTC, the end of Python's time.
const YEAR_9999_ENDS: f64 = 253_402_300_799.0;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_becomes_the_tid_that_persistent_computes() {
        // persistent.TimeStamp(2026, 4, 13, 12, 34, 30.0).raw()
        let moment = Timestamp::from_epoch(Duration::from_secs(1_776_083_670));
        let minutes = ((((2026 - 1900) * 12 + 3) * 31 + 12) * 24 + 12) * 60 + 34;
        assert_eq!(moment.to_tid(), Tid::new((minutes << 32) | 0x8000_0000));
        assert_eq!(Timestamp::from_tid(moment.to_tid()), moment);
    }

    #[test]
    fn the_seconds_of_a_tid_are_those_of_persistent_to_the_last_bit() {
        let computed_by_persistent = [
            (0x044a88a6b0c11fde, 2032084241.4268107),
            (0x045d1a79f17fd367, 2103893396.6014032),
            (0x0457c0eb7814e8bb, 2083202608.1441426),
            (0x038795b83fd42340, 1279424174.9598427),
            (0x03770aa6de11cc98, 1215583132.0475454),
            (0x03ce93c09e306913, 1553479717.075571),
        ];
        for (tid, seconds) in computed_by_persistent {
            assert_eq!(Timestamp::tid_seconds(Tid::new(tid)), seconds);
        }
    }

    #[test]
    fn any_number_of_seconds_is_a_moment() {
        assert_eq!(Timestamp::from_secs_f64(1.5).since_epoch(), Duration::from_millis(1500));
        assert_eq!(Timestamp::from_secs_f64(-1.0), Timestamp::default());
        assert_eq!(Timestamp::from_secs_f64(f64::NAN), Timestamp::default());
        let end = Timestamp::from_secs_f64(f64::INFINITY);
        assert_eq!(end.since_epoch(), Duration::from_secs(253_402_300_799));
        assert!(end.to_tid() < Tid::MAX);
    }

    #[test]
    fn tids_rise_when_the_clock_stands_or_steps_back() {
        let last = Timestamp::from_epoch(Duration::from_secs(1_000_000_000)).to_tid();
        assert_eq!(last.later_than(last), Tid::new(last.get() + 1));
        let stepped_back = Timestamp::from_epoch(Duration::from_secs(900_000_000)).to_tid();
        assert_eq!(stepped_back.later_than(last), Tid::new(last.get() + 1));
    }

    #[test]
    fn the_tid_after_the_last_of_a_month_is_in_the_next_month() {
        // 2026-02-28 23:59 and the largest fraction; the next is 2026-03-01 00:00.
        let end = (((((2026 - 1900) * 12 + 1) * 31 + 27) * 24 + 23) * 60 + 59) << 32 | 0xffff_ffff;
        let start = (((2026 - 1900) * 12 + 2) * 31 * 24 * 60) << 32;
        assert_eq!(Tid::ZERO.later_than(Tid::new(end)), Tid::new(start));
    }

    #[test]
    fn every_day_for_a_century_goes_to_a_tid_and_back() {
        for day in 0..36_525 {
            let moment = Timestamp::from_epoch(Duration::from_secs(day * SECONDS_PER_DAY + 86_399));
            let back = Timestamp::from_tid(moment.to_tid());
            let off = moment.since_epoch().abs_diff(back.since_epoch());
            assert!(off < Duration::from_nanos(20), "{moment:?} came back as {back:?}");
        }
    }
}
