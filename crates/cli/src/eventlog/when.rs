//! When a log file is put aside by time, and what it is then called.

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Weekday, fmt::strtime, tz::TimeZone};

/// The unit of a timed rotation, as Python's `TimedRotatingFileHandler` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Seconds,
    Minutes,
    Hours,
    Days,
    Midnight,
    /// At midnight of a day, 0 being Monday.
    Weekday(u8),
}

impl When {
    /// Reads `S`, `M`, `H`, `D`, `midnight` or `W0` to `W6`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.to_uppercase().as_str() {
            "S" => Self::Seconds,
            "M" => Self::Minutes,
            "H" => Self::Hours,
            "D" => Self::Days,
            "MIDNIGHT" => Self::Midnight,
            other => match other.strip_prefix('W').and_then(|day| day.parse().ok()) {
                Some(day @ 0..=6) => Self::Weekday(day),
                _ => return Err(format!("Invalid rollover interval specified: {text}")),
            },
        })
    }

    /// The first rotation after a time.
    pub(super) fn next(self, since: Timestamp, interval: u64, zone: &TimeZone) -> Timestamp {
        let later = since.checked_add(self.length(interval)).unwrap_or(Timestamp::MAX);
        match self {
            Self::Seconds | Self::Minutes | Self::Hours | Self::Days => later,
            Self::Midnight => self.midnight_after(since, zone, |_| true).unwrap_or(later),
            Self::Weekday(wanted) => self
                .midnight_after(since, zone, |day| day.to_monday_zero_offset() == wanted.cast_signed())
                .unwrap_or(later),
        }
    }

    /// The rotation after the one that was due at `due` and is done now.
    pub(super) fn next_after(
        self,
        due: Timestamp,
        now: Timestamp,
        interval: u64,
        zone: &TimeZone,
    ) -> Timestamp {
        self.next(now.max(due), interval, zone)
    }

    /// What the file is called that is put aside at `due`: by the beginning of its time.
    pub(super) fn name(self, due: Timestamp, interval: u64, zone: &TimeZone) -> String {
        let begin = match self {
            Self::Midnight | Self::Weekday(_) => {
                let days = i64::try_from(interval).unwrap_or(1).saturating_mul(self.days());
                due.to_zoned(zone.clone()).checked_sub(days.days()).ok()
            }
            Self::Seconds | Self::Minutes | Self::Hours | Self::Days => {
                due.checked_sub(self.length(interval)).ok().map(|begin| begin.to_zoned(zone.clone()))
            }
        };
        let begin = begin.unwrap_or_else(|| due.to_zoned(zone.clone()));
        strtime::format(self.pattern(), &begin).unwrap_or_else(|_| begin.timestamp().as_second().to_string())
    }

    /// Whether a file could have been given this name.
    pub(super) fn is_name(self, name: &str) -> bool {
        let shape = match self {
            Self::Seconds => "0000-00-00_00-00-00",
            Self::Minutes => "0000-00-00_00-00",
            Self::Hours => "0000-00-00_00",
            Self::Days | Self::Midnight | Self::Weekday(_) => "0000-00-00",
        };
        let fits = |(c, s): (u8, u8)| if s == b'0' { c.is_ascii_digit() } else { c == s };
        name.len() == shape.len() && name.bytes().zip(shape.bytes()).all(fits)
    }

    fn midnight_after(
        self,
        since: Timestamp,
        zone: &TimeZone,
        wanted: impl Fn(Weekday) -> bool,
    ) -> Option<Timestamp> {
        let mut day = since.to_zoned(zone.clone()).date();
        for _ in 0..=7 {
            day = day.tomorrow().ok()?;
            // Midnight at the end of a day belongs to that day: weekday 0 rotates when Monday is over.
            if wanted(day.yesterday().ok()?.weekday()) {
                return Some(day.to_zoned(zone.clone()).ok()?.timestamp());
            }
        }
        None
    }

    fn pattern(self) -> &'static str {
        match self {
            Self::Seconds => "%Y-%m-%d_%H-%M-%S",
            Self::Minutes => "%Y-%m-%d_%H-%M",
            Self::Hours => "%Y-%m-%d_%H",
            Self::Days | Self::Midnight | Self::Weekday(_) => "%Y-%m-%d",
        }
    }

    fn days(self) -> i64 {
        if matches!(self, Self::Weekday(_)) { 7 } else { 1 }
    }

    fn length(self, interval: u64) -> SignedDuration {
        let seconds: i64 = match self {
            Self::Seconds => 1,
            Self::Minutes => 60,
            Self::Hours => 3600,
            Self::Days | Self::Midnight => 86_400,
            Self::Weekday(_) => 7 * 86_400,
        };
        SignedDuration::from_secs(seconds.saturating_mul(i64::try_from(interval).unwrap_or(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn next(when: &str, since: &str, interval: u64) -> String {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        When::parse(when).unwrap().next(at(since), interval, &zone).to_string()
    }

    #[test]
    fn the_next_rotation_is_an_interval_later_or_at_midnight() {
        assert_eq!(next("s", "2024-05-07T10:00:00Z", 5), "2024-05-07T10:00:05Z");
        assert_eq!(next("H", "2024-05-07T10:30:00Z", 2), "2024-05-07T12:30:00Z");
        assert_eq!(next("d", "2024-05-07T10:30:00Z", 1), "2024-05-08T10:30:00Z");
        assert_eq!(next("midnight", "2024-05-07T10:30:00Z", 1), "2024-05-07T23:00:00Z");
        assert_eq!(next("midnight", "2024-05-07T23:00:00Z", 1), "2024-05-08T23:00:00Z");
        // The seventh of May 2024 is a Tuesday.
        assert_eq!(next("W1", "2024-05-07T10:30:00Z", 1), "2024-05-07T23:00:00Z");
        assert_eq!(next("W0", "2024-05-07T10:30:00Z", 1), "2024-05-13T23:00:00Z");
    }

    #[test]
    fn an_old_file_is_called_by_the_begin_of_its_time() {
        let name = |when: &str, due: &str| When::parse(when).unwrap().name(at(due), 1, &TimeZone::UTC);
        assert_eq!(name("S", "2024-05-07T10:00:05Z"), "2024-05-07_10-00-04");
        assert_eq!(name("midnight", "2024-05-08T00:00:00Z"), "2024-05-07");
        assert_eq!(name("W1", "2024-05-08T00:00:00Z"), "2024-05-01");
        let hours = When::parse("h").unwrap();
        assert!(hours.is_name("2024-05-07_10"));
        assert!(!hours.is_name("2024-05-07") && !hours.is_name("2024-05-07_1x"));
    }

    #[test]
    fn other_units_are_refused() {
        for wrong in ["x", "W", "W7", "W-1", "week"] {
            assert_eq!(When::parse(wrong), Err(format!("Invalid rollover interval specified: {wrong}")));
        }
    }
}
