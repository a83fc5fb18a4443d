//! What configuration files of sites turn into, and what is said about those that can't be used.

use super::*;
use crate::eventlog::{Destination, Rotation};

fn loaded(text: &str) -> Result<ServerSettings, String> {
    let document = zeolith_config::parse("file:///zeo.conf", text, &System).unwrap();
    from_document(&document).map_err(|error| error.to_string())
}

fn refused(text: &str) -> String {
    loaded(text).unwrap_err()
}

const ZEO: &str = "<zeo>\n  address 8100\n</zeo>\n";
const MEMORY: &str = "<mappingstorage>\n</mappingstorage>\n";

#[test]
fn the_configuration_of_a_site_is_understood() {
    let text = "<zeo>
          address LocalHost:8100
          read-only yes
          invalidation-queue-size 7
          invalidation-age 2.5
          transaction-timeout 30
          pid-filename zeo.pid
          client-conflict-resolution on
          msgpack true
          frame-size-max 1MB
          hello-timeout 5
          register-timeout 6
          frame-timeout 2m
          connections-max 7
          unregistered-connections-max 8
          client-queue-max 9KB
          client-lag-max 10
          iterators-max 11
          transaction-memory-max 0
          transaction-size-max 6GB
          temporary-directory /
          busy-poll 12
        </zeo>
        <filestorage Main>
          path Data.fs
          quota 2GB
          pack-gc off
          pack-keep-old false
          pack-rate-max 20MB
        </filestorage>
        <mappingstorage temp>
          name Sessions
        </mappingstorage>
        <eventlog>
          level debug
          <logfile>
            path zeo.log
            level error
            max-size 10MB
            old-files 3
          </logfile>
          <logfile>
            path STDOUT
            format %(message)s
          </logfile>
        </eventlog>
        <runner>
          program runzeo -C zeo.conf
          exit-codes 0, 2
          umask 077
          <eventlog>
            <syslog>
              facility daemon
            </syslog>
          </eventlog>
        </runner>";
    let settings = loaded(text).unwrap();
    assert_eq!(settings.address, Address::Tcp { host: "localhost".into(), port: 8100 });
    assert_eq!(settings.pid_file, Some("zeo.pid".into()));
    let server = &settings.server;
    assert_eq!((server.read_only, server.invalidation_queue_size, server.msgpack), (true, 7, true));
    assert_eq!(server.invalidation_age, Some(Duration::from_millis(2500)));
    assert_eq!(server.transaction_timeout, Some(Duration::from_secs(30)));
    assert!(server.client_conflict_resolution);
    let seconds = [server.hello_timeout, server.register_timeout, server.frame_timeout];
    assert_eq!(seconds.map(|timeout| timeout.as_secs()), [5, 6, 120]);
    let counts = [server.connections_max, server.unregistered_connections_max, server.client_queue_max];
    assert_eq!(counts, [7, 8, 9 << 10]);
    assert_eq!((server.client_lag_max, server.iterators_max), (10, 11));
    assert_eq!((server.transaction_memory_max, server.transaction_size_max), (0, 6 << 30));
    assert_eq!(server.temporary_directory, std::path::Path::new("/"));
    assert_eq!(server.busy_poll, Duration::from_micros(12));
    let mut file = FileSettings::new("Data.fs");
    (file.quota, file.pack_gc, file.pack_keep_old) = (Some(2 << 30), false, false);
    file.pack_rate_max = Some(20 << 20);
    let named = |name: &str, kind| StorageSettings { name: name.into(), kind };
    let storages =
        [named("main", StorageKind::File(file)), named("temp", StorageKind::Memory("Sessions".into()))];
    assert_eq!(settings.storages, storages);
    let log = settings.event_log.unwrap();
    assert_eq!((log.level, log.handlers[0].level, log.handlers[1].level), (10, 40, 0));
    let rotation = Rotation::Size { bytes: 10 << 20, keep: 3 };
    assert_eq!(
        log.handlers[0].destination,
        Destination::File { path: "zeo.log".into(), delay: false, rotation }
    );
    assert_eq!(log.handlers[1].destination, Destination::Stdout);
}

#[test]
fn everything_has_the_defaults_of_the_reference() {
    let settings = loaded(&format!("{ZEO}{MEMORY}")).unwrap();
    assert_eq!(settings.address, Address::Tcp { host: String::new(), port: 8100 });
    let server = settings.server;
    assert_eq!(server, zeolith_server::Settings { msgpack: server.msgpack, ..Default::default() });
    assert_eq!(settings.storages[0].name, "1");
    assert_eq!(settings.storages[0].kind, StorageKind::Memory("Mapping Storage".into()));
    assert!(settings.event_log.is_none() && settings.pid_file.is_none());
}

#[test]
fn storages_are_named_as_the_reference_names_them() {
    assert_eq!(refused(&format!("{ZEO}{MEMORY}{MEMORY}")), "No more than one storage may be unnamed.");
    let both = format!("{ZEO}{MEMORY}<mappingstorage 1/>");
    assert_eq!(refused(&both), "Can't have an unnamed storage and a storage named 1.");
    let settings = loaded(&format!("{ZEO}<mappingstorage B/>\n{MEMORY}")).unwrap();
    let names: Vec<_> = settings.storages.iter().map(|storage| storage.name.as_str()).collect();
    assert_eq!(names, ["b", "1"]);
}

#[test]
fn storages_can_stand_inside_a_demostorage() {
    let text = format!(
        "{ZEO}<demostorage Staging>
           name Staging
           <demostorage>
             <filestorage>
               path Data.fs
             </filestorage>
           </demostorage>
           <mappingstorage Changes/>
         </demostorage>"
    );
    let memory = StorageKind::Memory("Mapping Storage".into());
    let file = StorageKind::File(FileSettings::new("Data.fs"));
    let base = DemoSettings { name: None, base: Some(Box::new(file)), changes: None };
    let demo = DemoSettings {
        name: Some("Staging".into()),
        base: Some(Box::new(StorageKind::Demo(base))),
        changes: Some(Box::new(memory)),
    };
    let storages = loaded(&text).unwrap().storages;
    assert_eq!(storages, [StorageSettings { name: "staging".into(), kind: StorageKind::Demo(demo) }]);
    let described = "DemoStorage (base: DemoStorage (base: FileStorage Data.fs; changes: nothing); \
                     changes: MappingStorage Mapping Storage)";
    assert_eq!(storages[0].kind.to_string(), described);
}

#[test]
fn a_mistake_inside_a_demostorage_is_told_with_its_line() {
    let demo = |inside: &str| refused(&format!("{ZEO}<demostorage>\n{inside}\n</demostorage>"));
    let second = demo("<mappingstorage/>\n<mappingstorage other/>");
    assert!(second.starts_with("Too many base storages defined!"), "{second}");
    assert!(second.contains("(line 6, in file:///zeo.conf)\n    <mappingstorage other/>"), "{second}");
    let twice = zeolith_config::parse(
        "file:///zeo.conf",
        "<demostorage>\n<mappingstorage changes/>\n<filestorage Changes/>\n</demostorage>",
        &System,
    );
    assert!(twice.unwrap_err().to_string().starts_with("section names must not be re-used"));
    assert!(demo("<filestorage>\n</filestorage>").starts_with("no values for 'path'; 1 required (line 5"));
    assert!(
        demo("<mappingstorage>\nsize 3\n</mappingstorage>")
            .starts_with("'size' is not a known key name (line 6")
    );
    assert!(demo("<zeo/>").starts_with("no matching section defined for type='zeo', name='None' (line 5"));
    assert!(demo("<fullstorage/>").starts_with("<fullstorage> is not supported"));
}

#[test]
fn what_is_missing_is_said_in_the_words_of_the_reference() {
    assert!(refused(MEMORY).starts_with("no values for section type 'zeo'; 1 required"));
    assert!(
        refused(ZEO).starts_with("not enough values for section type 'zodb.storage'; 0 found, 1 required")
    );
    assert!(
        refused("<zeo/>").starts_with("no values for 'address'; 1 required (line 1, in file:///zeo.conf)")
    );
}

#[test]
fn blobs_are_for_file_storages_and_around_any_other() {
    let text = format!(
        "{ZEO}<filestorage One>
           path 1.fs
           blob-dir one
         </filestorage>
         <filestorage Two>
           path 2.fs
           blob-dir \"\"
         </filestorage>
         <blobstorage Three>
           blob-dir three
           <filestorage>
             path 3.fs
           </filestorage>
         </blobstorage>"
    );
    let file = |path: &str, directory: Option<&str>| {
        let mut file = FileSettings::new(path);
        file.blob_directory = directory.map(Into::into);
        StorageKind::File(file)
    };
    let settings = loaded(&text).unwrap();
    let kinds: Vec<_> = settings.storages.iter().map(|storage| &storage.kind).collect();
    let three = BlobSettings { directory: "three".into(), inner: Box::new(file("3.fs", None)) };
    assert_eq!(kinds[0], &file("1.fs", Some("one")));
    assert_eq!(kinds[2], &StorageKind::Blob(three));
    assert_eq!(kinds[2].to_string(), "BlobStorage (blobs in three; FileStorage 3.fs)");
    assert_eq!(kinds[0].to_string(), "FileStorage 1.fs (blobs in one)");

    let around = |text: &str| refused(&format!("{ZEO}<blobstorage>\n{text}\n</blobstorage>"));
    assert!(around("<mappingstorage/>").starts_with("no values for 'blob-dir'; 1 required"));
    let none = around("blob-dir x");
    assert!(none.contains("(line 4, in file:///zeo.conf)"), "{none}");
    let two = around("blob-dir x\n<mappingstorage/>\n<mappingstorage/>");
    assert!(two.contains("in file:///zeo.conf)"), "{two}");
    assert!(two.contains("(line 7, "), "{two}");
}

#[test]
fn what_is_not_supported_is_refused_by_its_line() {
    let storage = |text: &str| refused(&format!("{ZEO}{text}"));
    let tls = refused(&format!("<zeo>\naddress 1\n<ssl>\ncertificate x\n</ssl>\n</zeo>\n{MEMORY}"));
    assert!(tls.starts_with("TLS is not supported yet"), "{tls}");
    assert!(tls.contains("(line 3, in file:///zeo.conf)\n    <ssl>"), "{tls}");
    let packer = storage("<filestorage>\npath x\npacker a.b\n</filestorage>");
    assert!(packer.starts_with("packer names Python code"), "{packer}");
    for kind in ["zeoclient", "clientstorage", "fullstorage", "minimalstorage"] {
        let message = storage(&format!("<{kind}/>"));
        assert!(message.starts_with(&format!("<{kind}> is not supported")), "{message}");
    }
    for kind in ["syslog", "http-logger", "email-notifier", "win32-eventlog"] {
        let message = storage(&format!("{MEMORY}<eventlog>\n<{kind}/>\n</eventlog>"));
        assert!(message.starts_with(&format!("<{kind}> is not supported: use <logfile>")), "{message}");
        assert!(message.contains("(line 7, in "), "{message}");
    }
}

#[test]
fn values_without_a_meaning_are_refused() {
    let zeo = |line: &str| refused(&format!("<zeo>\naddress 1\n{line}\n</zeo>\n{MEMORY}"));
    assert!(zeo("invalidation-queue-size -1").starts_with("invalidation-queue-size must be from 0"));
    assert!(zeo("transaction-timeout 0").starts_with("transaction-timeout must be at least 1 second"));
    assert!(zeo("hello-timeout 0s").starts_with("hello-timeout must be from 1 to"));
    for wrong in ["busy-poll -1", "busy-poll 10001"] {
        assert!(zeo(wrong).starts_with("busy-poll must be from 0 to 10000 microseconds (line"));
    }
    assert!(zeo("frame-size-max 4GB").starts_with("frame-size-max must be from 1 to"));
    assert!(zeo("invalidation-age nan").starts_with("invalidation-age is not a number (line 3"));
    assert!(zeo("adress 2").contains("Did you mean 'address'?"));
    let file = |line: &str| refused(&format!("{ZEO}<filestorage>\npath x\n{line}\n</filestorage>"));
    assert!(file("quota -1").starts_with("quota can't be less than zero (line 6"));
    assert!(file("quota 1.5GB").starts_with("invalid literal for int() with base 10: '1.5' (line 6"));
}

#[test]
fn a_queue_of_nothing_and_an_endless_age_are_allowed() {
    let zeo = "<zeo>\naddress 1\ninvalidation-queue-size 0\ninvalidation-age inf\n</zeo>\n";
    let server = loaded(&format!("{zeo}{MEMORY}")).unwrap().server;
    assert_eq!((server.invalidation_queue_size, server.invalidation_age), (0, Some(CENTURY)));
}

#[test]
fn log_files_that_can_not_work_are_refused() {
    let log = |lines: &str| {
        refused(&format!("{ZEO}{MEMORY}<eventlog>\n<logfile>\npath x.log\n{lines}\n</logfile>\n</eventlog>"))
    };
    assert!(log("max-size 1MB").starts_with("old-files must be set for log rotation"));
    assert!(log("old-files 3").starts_with("max-bytes or when must be set for log rotation"));
    assert!(log("old-files 3\nwhen d\nmax-size 1").starts_with("can't set *both* max_bytes and when"));
    assert!(log("old-files 3\nwhen x").starts_with("Invalid rollover interval specified: x (line 10"));
    assert!(log("level 99").starts_with("log level not in range: 99 (line 9, in file:///zeo.conf)"));
    assert!(log("style foo").starts_with("log_format_style must be one of 'classic', 'format'"));
    assert!(log("format %(nosuch)s").starts_with("Invalid log format string %(nosuch)s"));
    assert!(log("dateformat %!").starts_with("Invalid date format string"));
    assert!(log("formatter my.Formatter").starts_with("formatter my.Formatter is not supported"));
}

#[test]
fn a_resolver_process_is_had_by_naming_its_python() {
    let with = |keys: &str| loaded(&format!("<zeo>\n address 8100\n{keys}\n</zeo>\n{MEMORY}"));
    let keys = "conflict-resolver /bin/python3\n conflict-resolver-timeout 5s\n conflict-resolver-memory 2GB\n\
                conflict-resolver-processes 4";
    let expected = zeolith_interpreter::Settings {
        python: "/bin/python3".into(),
        timeout: Duration::from_secs(5),
        memory_max: 2 << 30,
        processes_max: 4,
    };
    assert_eq!(with(keys).unwrap().resolver, Some(expected));
    let defaults = zeolith_interpreter::Settings::new("python3");
    assert_eq!(with("conflict-resolver python3").unwrap().resolver, Some(defaults));
    assert_eq!(with("conflict-resolver").unwrap().resolver, None);
    for (keys, expected) in [
        ("conflict-resolver-timeout 0", "conflict-resolver-timeout must be at least 1 and at most 3600"),
        ("conflict-resolver-memory 1MB", "conflict-resolver-memory must be at least 67108864"),
        ("conflict-resolver-processes 0", "conflict-resolver-processes must be at least 1 and at most 64"),
        ("conflict-resolver /no/such/python", "The directory named as part of the path"),
    ] {
        let said = with(keys).unwrap_err();
        assert!(said.contains(expected), "{said}");
    }
}
