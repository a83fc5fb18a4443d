//! `zeolith pack` and `zeopack`.

use crate::{harness::Site, runzeo::CONF};
use rustix::process::Signal;
use std::os::unix::fs::FileExt;

/// A database whose one object has been written again and again, as ZODB would write it.
fn fill(site: &Site, name: &str, revisions: u64) {
    let data = b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\x00.\x80\x03}q\x01.";
    let mut bytes = b"FS30".to_vec();
    let mut prev = 0_u64;
    for number in 0..revisions {
        let (start, tid) = (bytes.len() as u64, (0x03e0_0000_0000_0000 + (number << 20)).to_be_bytes());
        let len = (23 + 42 + data.len() as u64).to_be_bytes();
        bytes.extend([&tid[..], &len, b" ", &[0; 6], &[0; 8], &tid].concat());
        bytes.extend([&prev.to_be_bytes()[..], &start.to_be_bytes(), &[0; 2]].concat());
        bytes.extend([&(data.len() as u64).to_be_bytes()[..], data, &len].concat());
        prev = start + 23;
    }
    std::fs::write(site.path().join(name), bytes).unwrap();
}

fn size(site: &Site, name: &str) -> u64 {
    std::fs::metadata(site.path().join(name)).unwrap().len()
}

#[test]
fn a_file_is_packed_where_it_lies() {
    let site = Site::new();
    fill(&site, "Data.fs", 1000);
    let before = size(&site, "Data.fs");
    let told = site.zeolith(&["pack", "--dry-run", "--file", "Data.fs"]);
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
    assert_eq!(told.out, "0.1 MB now, 0.0 MB after a pack: 0.1 MB would go\n");
    assert_eq!(size(&site, "Data.fs"), before);
    let packed = site.zeolith(&["pack", "--file", "Data.fs"]);
    assert_eq!((packed.code, packed.out.as_str()), (Some(0), "packed: 0.1 MB before, 0.0 MB after\n"));
    assert!(size(&site, "Data.fs") < 300);
    assert_eq!(size(&site, "Data.fs.old"), before);
    let again = site.zeolith(&["pack", "--file", "Data.fs", "--days", "1"]);
    assert_eq!(again.out, "there is nothing to drop that has not been dropped before\n");
}

#[test]
fn the_blobs_of_a_file_go_with_its_revisions() {
    let site = Site::new();
    fill(&site, "Data.fs", 3);
    let place = ["0x00"; 8].join("/");
    let blob = |directory: &str, number: u64| {
        let tid = 0x03e0_0000_0000_0000 + (number << 20);
        format!("{directory}/{place}/0x{tid:016x}.blob")
    };
    std::fs::create_dir_all(site.path().join(format!("blobs/{place}"))).unwrap();
    site.write("blobs/.layout", "bushy");
    site.write(&blob("blobs", 1), "old");
    site.write(&blob("blobs", 2), "new");
    let missing = site.zeolith(&["pack", "-f", "Data.fs", "--blob-dir", "blob"]);
    assert_eq!((missing.code, missing.err.as_str()), (Some(2), "Error: there is no directory blob\n"));
    assert!(!site.has("Data.fs.old") && !site.has("blob"));
    let packed = site.zeolith(&["pack", "-f", "Data.fs", "--blob-dir", "blobs"]);
    assert_eq!((packed.code, packed.err.as_str()), (Some(0), ""));
    assert!(site.has(&blob("blobs", 2)) && !site.has(&blob("blobs", 1)));
    assert!(site.has(&blob("blobs.old", 1)));
}

#[test]
fn a_configuration_that_would_empty_a_file_is_refused() {
    let site = Site::new();
    fill(&site, "Data.fs", 3);
    let before = size(&site, "Data.fs");
    let section = "<zlibstorage>\n<filestorage>\npath Data.fs\ncreate true\n</filestorage>\n</zlibstorage>\n";
    site.write("zeo.conf", &format!("%import zc.zlibstorage\n<zeo>\naddress 0\n</zeo>\n{section}"));
    let refused = site.zeolith(&["pack", "-C", "zeo.conf"]);
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(refused.err.contains("zeo.conf says create"), "{}", refused.err);
    assert_eq!(size(&site, "Data.fs"), before);
}

#[test]
fn a_file_that_is_not_there_or_in_use_is_left_alone() {
    let site = Site::with(CONF);
    let missing = site.zeolith(&["pack", "-f", "Data.fs"]);
    assert_eq!((missing.code, missing.err.as_str()), (Some(2), "Error: there is no file Data.fs\n"));
    assert!(!site.has("Data.fs"));
    let running = site.start_runzeo(&["-C", "zeo.conf"]);
    // Something that looks like an unfinished pack belongs to whoever has the lock.
    site.write("Data.fs.pack", "half a pack of the server");
    for arguments in [["pack", "-f", "Data.fs"], ["pack", "-C", "zeo.conf"]] {
        let locked = site.zeolith(&arguments);
        assert_eq!(locked.code, Some(1));
        assert!(locked.err.contains("Couldn't lock 'Data.fs.lock'"), "{}", locked.err);
        assert!(site.has("Data.fs.pack"));
    }
    running.signal(Signal::TERM);
    running.end();
    let packed = site.zeolith(&["pack", "-C", "zeo.conf"]);
    assert_eq!(packed.code, Some(0), "{}", packed.err);
    assert!(packed.err.contains("Data.fs.pack"), "{}", packed.err);
    assert!(!site.has("Data.fs.pack"));
}

#[test]
fn a_server_packs_when_it_is_asked() {
    let site = Site::with(CONF);
    fill(&site, "Data.fs", 1000);
    let running = site.start_runzeo(&["-C", "zeo.conf"]);
    let address = running.address.clone();
    let told = site.zeolith(&["pack", "-n", &address]);
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
    assert_eq!(told.out, "0.1 MB now, 0.0 MB after a pack: 0.1 MB would go\n");
    let nothing = site.zeolith(&["pack", "--cancel", &address]);
    assert_eq!(nothing.code, Some(1));
    assert_eq!(nothing.err, format!("Error: {address}: there is no pack under way\n"));
    let packed = site.zeolith(&["pack", &address]);
    assert_eq!((packed.code, packed.out.as_str()), (Some(0), "packed: 0.1 MB before, 0.0 MB after\n"));
    let unknown = site.zeolith(&["pack", &address, "--storage", "other"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("unknown storage: other"), "{}", unknown.err);
    running.signal(Signal::TERM);
    running.end();
    let gone = site.zeolith(&["pack", &address]);
    assert_eq!(gone.code, Some(2));
}

#[test]
fn zeopack_packs_and_says_what_keeps_it_from_it() {
    let site = Site::with(CONF);
    fill(&site, "Data.fs", 1000);
    let mut running = site.start_runzeo(&["-C", "zeo.conf"]);
    let packed = site.zeopack(&["-d", "0", &running.address]);
    assert_eq!((packed.code, packed.out.as_str(), packed.err.as_str()), (Some(0), "", ""));
    assert!(size(&site, "Data.fs") < 300);
    running.wait_for("complete: ");
    // The last record is no pickle any more.
    running.signal(Signal::TERM);
    running.end();
    fill(&site, "Data.fs", 2);
    let file = std::fs::OpenOptions::new().write(true).open(site.path().join("Data.fs")).unwrap();
    file.write_all_at(b"\xff", size(&site, "Data.fs") - 11).unwrap();
    let _ = std::fs::remove_file(site.path().join("Data.fs.index"));
    let running = site.start_runzeo(&["-C", "zeo.conf"]);
    let port = running.address.rsplit(':').next().unwrap();
    let failed = site.zeopack(&[&running.address]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.err.contains("the references of 0x00 can't be read"), "{}", failed.err);
    assert!(
        failed.err.ends_with(&format!("Error packing storage 1 in ('127.0.0.1', {port})\n")),
        "{}",
        failed.err
    );
}

#[test]
fn zeopack_without_arguments_explains_itself() {
    let site = Site::new();
    let help = site.zeopack(&[]);
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    assert!(help.out.starts_with("Usage: zeopack [options] [servers]\n"), "{}", help.out);
    let wrong = site.zeopack(&["--nosuch"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.ends_with("zeopack: error: option --nosuch not recognized\n"), "{}", wrong.err);
    let subcommand = site.zeolith(&["zeopack", "-d", "1"]);
    assert_eq!((subcommand.code, subcommand.err.as_str()), (Some(1), "Error:\nNo servers specified.\n"));
}
