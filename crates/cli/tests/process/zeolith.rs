//! The subcommands of `zeolith`.

use crate::{harness::Site, runzeo::CONF};
use rustix::process::Signal;

#[test]
fn serve_makes_its_file_and_says_how_to_connect() {
    let site = Site::new();
    let mut running = site.start_zeolith(&["serve", "--address", "127.0.0.1:0"]);
    let port = running.address.rsplit(':').next().unwrap().to_owned();
    running.wait_for(&format!("ZEO.connection({port})"));
    running.wait_for(&format!("server 127.0.0.1:{port}"));
    assert!(site.has("var/Data.fs"));
    running.signal(Signal::INT);
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn status_tells_people_and_programs() {
    let site = Site::with(CONF);
    let running = site.start_runzeo(&["-C", "zeo.conf"]);
    let people = site.zeolith(&["status", &running.address]);
    assert_eq!((people.code, people.err.as_str()), (Some(0), ""));
    assert!(
        people.out.contains("storage '1'") && people.out.contains("none: the storage is empty"),
        "{}",
        people.out
    );
    let programs = site.zeolith(&["status", "--json", &running.address]);
    let answer: serde_json::Value = serde_json::from_str(&programs.out).unwrap();
    assert_eq!(answer["1"]["commits"], 0);
    let address = running.address.clone();
    running.signal(Signal::TERM);
    running.end();
    let gone = site.zeolith(&["status", &address]);
    assert_eq!(gone.code, Some(2));
    assert!(gone.err.starts_with(&format!("Error: can't connect to {address}: ")), "{}", gone.err);
}

#[test]
fn check_config_says_what_a_server_would_do() {
    let site = Site::with(CONF);
    let good = site.zeolith(&["check-config", "zeo.conf"]);
    assert_eq!(good.code, Some(0), "{}", good.err);
    assert!(good.out.contains("storage     '1': FileStorage Data.fs"), "{}", good.out);
    assert!(!site.has("Data.fs"));
    site.write("zeo.conf", "<zeo>\n");
    let bad = site.zeolith(&["check-config", "zeo.conf"]);
    assert_eq!(bad.code, Some(2));
    assert!(bad.err.contains("unclosed sections not allowed (line 1"), "{}", bad.err);
}

#[test]
fn runzeo_is_also_a_subcommand() {
    let site = Site::with(CONF);
    let ended = site.zeolith(&["runzeo", "-C", "zeo.conf", "--test"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "testing exit immediately\n"));
    let ended = site.zeolith(&["runzeo", "--nosuch"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.ends_with("zeolith runzeo -h\n"), "{}", ended.err);
}
