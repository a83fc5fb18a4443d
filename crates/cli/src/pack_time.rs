//! The time to which a pack goes, as `zeopack` lets people say it: a time of day and a number of days before.

use jiff::{SignedDuration, Timestamp, civil::Time, tz::TimeZone};

/// Seconds since 1970 of `time` (`HH[:MM[:SS]]`, today's local time; now if there is none), less `days`.
pub(crate) fn pack_time(time: Option<&str>, days: f64) -> Result<f64, String> {
    let now = Timestamp::now();
    let moment = match time {
        None => now,
        Some(text) => at_local_time(now, &TimeZone::system(), text)?,
    };
    Ok(moment.as_nanosecond() as f64 / 1e9 - days * 86400.0)
}

fn at_local_time(now: Timestamp, zone: &TimeZone, text: &str) -> Result<Timestamp, String> {
    let invalid = || format!("Invalid time value: {}", zeolith_config::quoted(text));
    let numbers: Result<Vec<i64>, _> = text.split(':').map(|part| part.trim().parse()).collect();
    let numbers = numbers.map_err(|_| invalid())?;
    let (hours, minutes, seconds) = match *numbers.as_slice() {
        [hours] => (hours, 0, 0),
        [hours, minutes] => (hours, minutes, 0),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return Err(invalid()),
    };
    // Like C's mktime: hour 25 is an hour of the next day.
    let into_day = [(hours, 3600), (minutes, 60), (seconds, 1)]
        .into_iter()
        .try_fold(0_i64, |sum, (n, unit)| n.checked_mul(unit).and_then(|part| sum.checked_add(part)));
    let midnight = zone.to_datetime(now).date().to_datetime(Time::midnight());
    let moment = into_day.and_then(|seconds| midnight.checked_add(SignedDuration::from_secs(seconds)).ok());
    let moment = moment.and_then(|moment| moment.to_zoned(zone.clone()).ok()).ok_or_else(invalid)?;
    Ok(moment.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<String, String> {
        let now: Timestamp = "2026-07-04T12:34:56Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        at_local_time(now, &zone, text).map(|moment| moment.to_string())
    }

    #[test]
    fn a_time_of_day_is_that_of_today_where_the_command_runs() {
        assert_eq!(at("3").unwrap(), "2026-07-04T01:00:00Z");
        assert_eq!(at("14:30").unwrap(), "2026-07-04T12:30:00Z");
        assert_eq!(at("14:30:05").unwrap(), "2026-07-04T12:30:05Z");
        assert_eq!(at("25").unwrap(), "2026-07-04T23:00:00Z");
        for wrong in ["", "x", "1:2:3:4", "99999999999999999"] {
            assert_eq!(at(wrong).unwrap_err(), format!("Invalid time value: '{wrong}'"));
        }
    }

    #[test]
    fn days_are_taken_off() {
        let (now, before) = (pack_time(None, 0.0).unwrap(), pack_time(None, 1.5).unwrap());
        assert!((now - before - 1.5 * 86400.0).abs() < 60.0);
    }
}
