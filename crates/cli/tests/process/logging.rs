//! The event log of a running server.

use crate::{harness::Site, runzeo::CONF};
use rustix::process::Signal;

/// A log file, and after it the standard error stream, so that what a test hears is also in the file.
fn conf(handler: &str) -> String {
    format!("{CONF}<eventlog>\n{handler}\n<logfile>\npath STDERR\n</logfile>\n</eventlog>\n")
}

/// The shape of a text: digits become 0.
fn shape(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

#[test]
fn the_default_format_is_two_lines_as_in_the_reference() {
    let site = Site::with(&conf("<logfile>\npath server.log\n</logfile>"));
    let running = site.start_runzeo(&["-C", "zeo.conf"]);
    let pid = running.pid();
    running.signal(Signal::TERM);
    assert_eq!(running.end().0, Some(0));
    let log = site.read("server.log");
    let entry = log.split("------\n").find(|entry| entry.contains("opening storage")).unwrap();
    let (time, rest) = entry.split_once(' ').unwrap();
    assert_eq!(shape(time), "0000-00-00T00:00:00");
    assert_eq!(rest, format!("INFO ZEO.runzeo ({pid}) opening storage '1' using FileStorage\n"));
    assert!(log.contains("terminated by SIGTERM"), "{log}");
}

#[test]
fn a_log_that_was_moved_away_is_reopened_on_sigusr2() {
    let site =
        Site::with(&conf("<logfile>\npath server.log\nformat %(levelname)-7s|%(message)s\n</logfile>"));
    let mut running = site.start_runzeo(&["-C", "zeo.conf"]);
    let pid = running.pid();
    std::fs::rename(site.path().join("server.log"), site.path().join("old.log")).unwrap();
    running.signal(Signal::USR2);
    running.wait_for("Log files reopened successfully");
    assert!(site.read("old.log").contains("INFO   |listening on"), "{}", site.read("old.log"));
    assert_eq!(site.read("server.log"), format!("INFO   |({pid}) Log files reopened successfully\n"));
}

#[test]
fn levels_sift_what_is_written() {
    let handler = "level warn\n<logfile>\npath server.log\n</logfile>";
    let site = Site::with(&format!("{CONF}<eventlog>\n{handler}\n</eventlog>\n"));
    let ended = site.runzeo(&["-C", "zeo.conf", "--test"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    assert_eq!(site.read("server.log"), "");
}

#[test]
fn a_log_file_that_can_not_be_opened_ends_with_two() {
    let site = Site::with(&conf("<logfile>\npath no/such/directory/log\n</logfile>"));
    let ended = site.runzeo(&["-C", "zeo.conf", "--test"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.starts_with("Error: can't open the event log: "), "{}", ended.err);
    assert!(!site.has("Data.fs"));
}

#[test]
fn a_full_disk_under_the_log_does_not_stop_the_server() {
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let site = Site::with(&conf("<logfile>\npath /dev/full\n</logfile>"));
    let running = site.start_runzeo(&["-C", "zeo.conf"]);
    assert_eq!(site.zeolith(&["status", &running.address]).code, Some(0));
    running.signal(Signal::TERM);
    assert_eq!(running.end().0, Some(0));
}
