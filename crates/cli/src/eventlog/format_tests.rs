//! Formats of every style, held against what Python makes of them.

use super::*;
use jiff::Timestamp;
use proptest::prelude::*;

fn record() -> Record {
    Record {
        level: 20,
        name: "ZEO.runzeo",
        message: "hello".to_owned(),
        extra: vec![("port", "8100".to_owned())],
        path: "crates/cli/src/x.rs",
        module: "zeolith_cli::x",
        line: 42,
        created: Timestamp::from_microsecond(1_700_000_000_042_500).unwrap(),
        thread: 7,
        thread_name: "MainThread".to_owned(),
    }
}

fn made(format: &str, style: Style) -> Result<String, String> {
    let date = DateFormat::compile("%Y").unwrap();
    let mut record = record();
    record.extra.clear();
    Format::compile(format, style, false).map(|format| format.render(&record, &date))
}

fn percent(format: &str) -> String {
    made(format, Style::Percent).unwrap()
}

fn braces(format: &str) -> String {
    made(format, Style::Braces).unwrap()
}

#[test]
fn the_default_format_is_that_of_the_reference() {
    let line = percent("------\n%(asctime)s %(levelname)s %(name)s %(message)s");
    assert_eq!(line, "------\n2023 INFO ZEO.runzeo hello");
}

#[test]
fn classic_conversions_follow_python() {
    assert_eq!(percent("[%(levelname)-8s|%(levelname)8s|%(name).3s]"), "[INFO    |    INFO|ZEO]");
    assert_eq!(
        percent("%(lineno)05d %(lineno)+d %(lineno)x %(lineno)#o %(lineno)-4d|"),
        "00042 +42 2a 0o52 42  |"
    );
    assert_eq!(
        percent("%(created)f %(created).1f %(msecs)03d %(msecs)d"),
        "1700000000.042500 1700000000.0 042 42"
    );
    assert_eq!(percent("%(created)g %(created)e %(msecs)g"), "1.7e+09 1.700000e+09 42");
    assert_eq!(percent("%(message)r %(lineno)s %(msecs)s 100%%"), "'hello' 42 42.0 100%");
    assert_eq!(percent("%(filename)s:%(module)s:%(funcName)s"), "x.rs:x:(unknown function)");
    assert_eq!(percent("%(threadName)s %(thread)d %(processName)s"), "MainThread 7 MainProcess");
    assert_eq!(percent("%(process)d"), std::process::id().to_string());
}

#[test]
fn brace_conversions_follow_python() {
    assert_eq!(braces("{levelname:>8}|{levelname:*^8}|{levelname:8}|"), "    INFO|**INFO**|INFO    |");
    assert_eq!(braces("{lineno:05} {lineno:+d} {lineno:#x} {lineno:<4}|"), "00042 +42 0x2a 42  |");
    assert_eq!(braces("{created:,.1f} {msecs:03.0f} {message!r:>9}"), "1,700,000,000.0 042   'hello'");
    assert_eq!(braces("{{{name}}}"), "{ZEO.runzeo}");
}

#[test]
fn templates_follow_python() {
    assert_eq!(made("$name ${levelname}s $$", Style::Template).unwrap(), "ZEO.runzeo INFOs $");
    assert_eq!(made("$nosuch ${no $ $name", Style::SafeTemplate).unwrap(), "$nosuch ${no $ ZEO.runzeo");
    assert!(made("$nosuch", Style::Template).unwrap_err().ends_with("there is no field 'nosuch'"));
    assert!(made("$ ", Style::Template).unwrap_err().contains("invalid placeholder"));
}

#[test]
fn formats_that_python_would_refuse_are_refused() {
    for wrong in ["%(nosuch)s", "%(message)d", "%(message)q", "%s", "%(name", "%(name)", "%(created)x", "%"] {
        let message = made(wrong, Style::Percent).unwrap_err();
        assert!(message.starts_with(&format!("Invalid log format string {wrong}: ")), "{message}");
    }
    for wrong in
        ["{}", "{0}", "{nosuch}", "{name", "}", "{message:d}", "{name:.}", "{name!x}", "{name:>999999999}"]
    {
        assert!(made(wrong, Style::Braces).is_err(), "{wrong}");
    }
}

#[test]
fn arbitrary_fields_are_taken_from_what_was_logged() {
    let date = DateFormat::compile("%Y").unwrap();
    let format = Format::compile("%(port)s %(other)s %(message)s", Style::Percent, true).unwrap();
    assert_eq!(format.render(&record(), &date), "8100 %(other)s hello port=8100");
}

#[test]
fn levels_have_the_names_of_the_reference() {
    let name = |level| Record { level, ..record() }.level_name();
    assert_eq!([name(50), name(15), name(5), name(42)], ["CRITICAL", "BLATHER", "TRACE", "Level 42"]);
}

proptest! {
    #[test]
    fn any_format_is_compiled_or_refused(format in "[%${}()!:<>.#a-z0-9 \u{e9}]{0,24}") {
        for style in [Style::Percent, Style::Braces, Style::Template, Style::SafeTemplate] {
            for any_field in [false, true] {
                if let Ok(compiled) = Format::compile(&format, style, any_field) {
                    let line = compiled.render(&record(), &DateFormat::compile("%Y").unwrap());
                    prop_assert!(line.len() < 24 * 600);
                }
            }
        }
    }
}
