//! The options of `runzeo`, and what it says when they can't be used.

use crate::harness::Site;
use rustix::process::Signal;
use std::os::unix::net::UnixListener;

pub(crate) const CONF: &str =
    "<zeo>\n  address 127.0.0.1:0\n</zeo>\n<filestorage>\n  path Data.fs\n</filestorage>\n";

#[test]
fn usage_errors_end_with_two_and_point_to_the_help() {
    let site = Site::new();
    for (arguments, message) in [
        (&[][..], "no server address specified; use -a or -C"),
        (&["-a", "8100"], "no storages specified; use -f or -C"),
        (&["x"], "positional arguments are not supported"),
        (&["--nosuch"], "option --nosuch not recognized"),
        (&["-X", "a/b=c"], "configuration overrides (-X) cannot be used without a configuration file"),
    ] {
        let ended = site.runzeo(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""));
        let help = format!("For help, use {} -h\n", env!("CARGO_BIN_EXE_runzeo"));
        assert_eq!(ended.err, format!("Error: {message}\n{help}"));
    }
}

#[test]
fn a_bad_configuration_is_quoted() {
    let site = Site::with("<zeo>\n  address 127.0.0.1:0\n  no-such-key 1\n</zeo>\n<mappingstorage/>\n");
    let ended = site.runzeo(&["-C", "zeo.conf"]);
    assert_eq!(ended.code, Some(2));
    let path = site.path().canonicalize().unwrap();
    let place = format!("(line 3, in file://{}/zeo.conf)", path.display());
    let message = format!("Error: 'no-such-key' is not a known key name {place}\n    no-such-key 1\n");
    assert!(ended.err.starts_with(&message), "{}", ended.err);
    let ended = site.runzeo(&["-C", "no-such.conf"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("no-such.conf"), "{}", ended.err);
}

#[test]
fn help_and_version_go_to_the_standard_output() {
    let site = Site::new();
    let help = site.runzeo(&["-h"]);
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    for option in ["--configure", "--address", "--filename", "--timeout", "--pid-file"] {
        assert!(help.out.contains(option), "{}", help.out);
    }
    let version = site.runzeo(&["--version"]);
    assert_eq!(
        (version.code, version.out),
        (Some(0), format!("runzeo of zeolith {}\n", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn a_test_starts_the_server_and_stops_it() {
    let site = Site::with(CONF);
    let ended = site.runzeo(&["-C", "zeo.conf", "--test", "--pid-file", "pid"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "testing exit immediately\n"));
    assert!(site.has("Data.fs") && !site.has("pid"));
}

#[test]
fn the_command_line_goes_before_the_configuration() {
    let site = Site::with(CONF);
    let ended = site.runzeo(&["-C", "zeo.conf", "-f", "a.fs", "-f", "b.fs", "--test"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(site.has("a.fs") && site.has("b.fs") && !site.has("Data.fs"));
    assert!(ended.err.contains("opening storage '2' using FileStorage"), "{}", ended.err);
    let ended = site.runzeo(&["-C", "zeo.conf", "-X", "filestorage/path=other.fs", "--test"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(site.has("other.fs") && !site.has("Data.fs"));
}

#[test]
fn an_address_in_use_ends_with_two_and_opens_nothing() {
    let site = Site::with(CONF);
    let first = site.start_runzeo(&["-C", "zeo.conf"]);
    let ended = site.runzeo(&["-a", &first.address, "-f", "other.fs"]);
    assert_eq!(ended.code, Some(2));
    let port = first.address.rsplit(':').next().unwrap();
    let message = format!("Error: address ('127.0.0.1', {port}) already in use\n");
    assert!(ended.err.contains(&message), "{}", ended.err);
    assert!(!site.has("other.fs"));
}

#[test]
fn a_storage_that_another_server_has_ends_with_one() {
    let site = Site::with(CONF);
    let _first = site.start_runzeo(&["-C", "zeo.conf"]);
    let ended = site.runzeo(&["-C", "zeo.conf", "--pid-file", "pid"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("Error: storage '1' can't be opened: "), "{}", ended.err);
    assert!(!site.has("pid"));
}

#[test]
fn a_stale_socket_is_replaced_and_removed_at_the_end() {
    let site = Site::new();
    drop(UnixListener::bind(site.path().join("sock")).unwrap());
    let running = site.start_runzeo(&["-a", "./sock", "-f", "Data.fs"]);
    assert_eq!(site.zeolith(&["status", "./sock"]).code, Some(0));
    running.signal(Signal::TERM);
    assert_eq!(running.end().0, Some(0));
    assert!(!site.has("sock"));
}

#[test]
fn a_file_in_the_place_of_the_socket_is_left_alone() {
    let site = Site::new();
    site.write("sock", "precious");
    let ended = site.runzeo(&["-a", "./sock", "-f", "Data.fs"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("exists and is not a socket"), "{}", ended.err);
    assert_eq!(site.read("sock"), "precious");
}

#[test]
fn only_protocol_five_can_be_asked_for() {
    let site = Site::with(CONF);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_runzeo"))
        .args(["-C", "zeo.conf", "--test"])
        .current_dir(site.path())
        .env("ZEO_SERVER_PROTOCOL", "4")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ZEO_SERVER_PROTOCOL is '4'"));
}
