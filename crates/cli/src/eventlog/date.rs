//! Puts times into the form of Python's `time.strftime`.

use jiff::{Timestamp, fmt::strtime, tz::TimeZone};

/// A date format that is known to work.
#[derive(Clone, Debug)]
pub(crate) struct DateFormat(String);

impl DateFormat {
    /// Checks a format.
    pub(crate) fn compile(format: &str) -> Result<Self, String> {
        let format = Self(format.to_owned());
        match strtime::format(format.pattern(), &Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC)) {
            Ok(_) => Ok(format),
            Err(error) => Err(format!("Invalid date format string {}: {error}", format.0)),
        }
    }

    /// The time in the form, in the zone of the machine.
    pub(super) fn render(&self, time: Timestamp) -> String {
        self.render_in(time, TimeZone::system())
    }

    fn render_in(&self, time: Timestamp, zone: TimeZone) -> String {
        let zoned = time.to_zoned(zone);
        let text = strtime::format(self.pattern(), &zoned).unwrap_or_else(|_| zoned.to_string());
        if self.0.is_empty() { format!("{text},{:03}", zoned.millisecond()) } else { text }
    }

    fn pattern(&self) -> &str {
        // What Python takes if there is no format; the milliseconds follow.
        if self.0.is_empty() { "%Y-%m-%d %H:%M:%S" } else { &self.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(format: &str) -> String {
        let time = Timestamp::from_millisecond(1_700_000_000_042).unwrap();
        DateFormat::compile(format).unwrap().render_in(time, TimeZone::UTC)
    }

    #[test]
    fn times_are_formatted_as_strftime_does() {
        assert_eq!(rendered("%Y-%m-%dT%H:%M:%S"), "2023-11-14T22:13:20");
        assert_eq!(rendered("%a %d %b %y %I:%M %p %j %%"), "Tue 14 Nov 23 10:13 PM 318 %");
        assert_eq!(rendered("%d/%b/%Y:%H:%M:%S %z"), "14/Nov/2023:22:13:20 +0000");
        assert_eq!(rendered(""), "2023-11-14 22:13:20,042");
    }

    #[test]
    fn a_format_that_can_not_work_is_refused() {
        assert!(DateFormat::compile("%!").unwrap_err().starts_with("Invalid date format string %!: "));
    }
}
