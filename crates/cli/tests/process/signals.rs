//! Signals, exit codes and the pid file.

use crate::{harness::Site, runzeo::CONF};
use rustix::process::Signal;

#[test]
fn term_and_int_end_with_zero_and_hup_with_one() {
    for (signal, code, line) in [
        (Signal::TERM, 0, "terminated by SIGTERM"),
        (Signal::INT, 0, "terminated by SIGINT"),
        (Signal::HUP, 1, "restarted by SIGHUP"),
    ] {
        let site = Site::with(CONF);
        let running = site.start_runzeo(&["-C", "zeo.conf"]);
        let pid = running.pid();
        running.signal(signal);
        let (ended, said) = running.end();
        assert_eq!(ended, Some(code));
        assert!(said.contains(&format!(" INFO ZEO.runzeo ({pid}) {line}")), "{said}");
        assert!(said.contains("INFO ZEO.StorageServer closing storage '1'"), "{said}");
    }
}

#[test]
fn the_pid_file_is_there_as_long_as_the_server() {
    let site = Site::with(CONF);
    // One that a server left which was killed.
    site.write("zeo.pid", "999999\n");
    let running = site.start_runzeo(&["-C", "zeo.conf", "--pid-file", "zeo.pid"]);
    let pid = running.pid();
    assert_eq!(site.read("zeo.pid"), format!("{pid}\n"));
    running.signal(Signal::TERM);
    let (code, said) = running.end();
    assert_eq!(code, Some(0));
    assert!(said.contains(&format!("({pid}) removed PID file 'zeo.pid'")), "{said}");
    assert!(!site.has("zeo.pid"));
}

#[test]
fn an_instance_home_has_its_pid_file_in_var() {
    let site = Site::with(CONF);
    std::fs::create_dir(site.path().join("var")).unwrap();
    let home = site.path().to_str().unwrap().to_owned();
    let running = site.start_runzeo_with(&["-C", "zeo.conf"], "INSTANCE_HOME", &home);
    assert_eq!(site.read("var/ZEO.pid"), format!("{}\n", running.pid()));
}

#[test]
fn a_pid_file_that_can_not_be_written_is_logged_and_the_server_goes_on() {
    let site = Site::with(CONF);
    let arguments = ["-C", "zeo.conf", "--pid-file", "no/such/directory/pid"];
    let running = site.start_runzeo(&arguments);
    running.signal(Signal::TERM);
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn without_an_event_log_there_is_nothing_to_reopen() {
    let site = Site::with(CONF);
    let mut running = site.start_runzeo(&["-C", "zeo.conf"]);
    let pid = running.pid();
    running.signal(Signal::USR2);
    let line = running.wait_for("received SIGUSR2");
    assert!(
        line.ends_with(&format!("WARNING ZEO.runzeo ({pid}) received SIGUSR2, but it was not handled!")),
        "{line}"
    );
}
