//! Log files that rotate, reopen and fail.

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_full_file_is_put_aside_and_the_oldest_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let rotation = Rotation::Size { bytes: 10, keep: 2 };
    let mut log = LogFile::open(&path, false, rotation).unwrap();
    for line in ["one\n", "two\n", "three\n", "four\n", "fiveandmore\n", "six\n"] {
        log.write(line.as_bytes(), at(0)).unwrap();
    }
    assert_eq!(names(folder.path()), ["log", "log.1", "log.2"]);
    assert_eq!(read(&path), "six\n");
    assert_eq!(read(&folder.path().join("log.1")), "fiveandmore\n");
    assert_eq!(read(&folder.path().join("log.2")), "four\n");
}

#[test]
fn a_file_is_put_aside_when_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let rotation = Rotation::Timed { when: When::Hours, interval: 1, keep: 2 };
    let mut log = LogFile::open(&path, false, rotation).unwrap();
    let start = Timestamp::now().as_second();
    for hour in 0..5 {
        log.write(format!("{hour}\n").as_bytes(), at(start + 3 * 3600 * hour)).unwrap();
    }
    assert_eq!(read(&path), "4\n");
    let names = names(folder.path());
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[1..].iter().all(|name| When::Hours.is_name(&name["log.".len()..])), "{names:?}");
    assert_eq!(read(&folder.path().join(&names[2])), "3\n");
}

#[test]
fn a_file_that_was_moved_away_is_made_anew_on_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("log"), folder.path().join("moved"));
    let mut log = LogFile::open(&path, false, Rotation::Never).unwrap();
    log.write(b"before\n", at(0)).unwrap();
    fs::rename(&path, &moved).unwrap();
    log.write(b"still\n", at(0)).unwrap();
    log.reopen(at(0)).unwrap();
    log.write(b"after\n", at(0)).unwrap();
    assert_eq!((read(&moved).as_str(), read(&path).as_str()), ("before\nstill\n", "after\n"));
}

#[test]
fn a_delayed_file_is_made_by_its_first_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut log = LogFile::open(&path, true, Rotation::Never).unwrap();
    assert!(!path.exists());
    log.write(b"x\n", at(0)).unwrap();
    assert_eq!(read(&path), "x\n");
}

#[test]
fn a_line_that_can_not_be_written_is_an_error_and_the_next_one_tries_again() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("logs");
    let path = directory.join("log");
    let mut log = LogFile::open(&path, true, Rotation::Never).unwrap();
    assert!(log.write(b"lost\n", at(0)).is_err());
    fs::create_dir(&directory).unwrap();
    log.write(b"kept\n", at(0)).unwrap();
    assert_eq!(read(&path), "kept\n");
}
