//! What a server's configuration file may say: the reference's sections and keys, and why some are refused.
//!
//! A section or key of the reference that is not supported is refused by a sentence that says what to do
//! instead; one that the reference does not know either is refused as unknown.

use super::values::{escaped, existing_parent, exit_codes, level, octal, style, url};
use zeolith_config::{
    DataType::{
        Boolean, ByteSize, DottedName, ExistingDirpath, ExistingPath, Float, InetAddress, Integer, Own,
        SocketBindingAddress, Text, TimeInterval, Words,
    },
    KeyRule, Occurs, SectionRule, SectionType,
};

/// A whole `zeo.conf`.
pub(super) static SERVER: SectionType = SectionType {
    name: "",
    keys: &[],
    sections: &[
        SectionRule { name: "zeo", types: &[&ZEO], occurs: Occurs::Once },
        SectionRule { name: "runner", types: &[&RUNNER], occurs: Occurs::Optional },
        SectionRule { name: "zodb.storage", types: &STORAGES, occurs: Occurs::Some },
        SectionRule { name: "eventlog", types: &[&EVENTLOG], occurs: Occurs::Optional },
    ],
    refusal: None,
};

static ZEO: SectionType = SectionType {
    name: "zeo",
    keys: &[
        KeyRule::required("address", SocketBindingAddress),
        KeyRule::default("read-only", Boolean, "false"),
        KeyRule::default("invalidation-queue-size", Integer, "100"),
        KeyRule::optional("invalidation-age", Float),
        KeyRule::optional("transaction-timeout", Integer),
        KeyRule::optional("pid-filename", ExistingDirpath),
        KeyRule::default("client-conflict-resolution", Boolean, "false"),
        KeyRule::optional("msgpack", Boolean),
        // Ours: the reference has no such limits.
        KeyRule::default("frame-size-max", ByteSize, "256MB"),
        KeyRule::default("hello-timeout", TimeInterval, "30s"),
        KeyRule::default("register-timeout", TimeInterval, "30s"),
        KeyRule::default("frame-timeout", TimeInterval, "60s"),
        KeyRule::default("connections-max", Integer, "10000"),
        KeyRule::default("unregistered-connections-max", Integer, "4000"),
        KeyRule::default("client-queue-max", ByteSize, "4MB"),
        KeyRule::default("client-lag-max", Integer, "10000"),
        KeyRule::default("iterators-max", Integer, "1000"),
        KeyRule::default("transaction-memory-max", ByteSize, "16MB"),
        KeyRule::default("transaction-size-max", ByteSize, "16GB"),
        KeyRule::optional("temporary-directory", ExistingPath),
        // Ours: the reference goes to sleep after each answer.
        KeyRule::default("busy-poll", Integer, "300"),
        // Ours: the reference resolves conflicts in its own process.
        KeyRule::optional("conflict-resolver", ExistingDirpath),
        KeyRule::default("conflict-resolver-timeout", TimeInterval, "30s"),
        KeyRule::default("conflict-resolver-memory", ByteSize, "1GB"),
        KeyRule::default("conflict-resolver-processes", Integer, "2"),
    ],
    sections: &[SectionRule { name: "ssl", types: &[&SSL], occurs: Occurs::Optional }],
    refusal: None,
};

/// What stands for a storage, at the outermost level and inside another storage.
static STORAGES: [&SectionType; 10] = [
    &FILESTORAGE,
    &MAPPINGSTORAGE,
    &DEMOSTORAGE,
    &BLOBSTORAGE,
    &ZEOCLIENT,
    &CLIENTSTORAGE,
    &FULLSTORAGE,
    &MINIMALSTORAGE,
    &ZLIBSTORAGE,
    &SERVERZLIBSTORAGE,
];

static FILESTORAGE: SectionType = SectionType {
    name: "filestorage",
    keys: &[
        KeyRule::required("path", ExistingDirpath),
        KeyRule::optional("blob-dir", ExistingDirpath),
        KeyRule::optional("create", Boolean),
        KeyRule::optional("read-only", Boolean),
        KeyRule::optional("quota", ByteSize),
        KeyRule::optional("packer", Text).refused(
            "packer names Python code, which this server can't run: leave the key out for the built-in packer",
        ),
        KeyRule::default("pack-gc", Boolean, "true"),
        KeyRule::default("pack-keep-old", Boolean, "true"),
        // Ours: Python packs as fast as it can.
        KeyRule::optional("pack-rate-max", ByteSize),
    ],
    sections: &[],
    refusal: None,
};

static MAPPINGSTORAGE: SectionType = SectionType {
    name: "mappingstorage",
    keys: &[KeyRule::default("name", Text, "Mapping Storage")],
    sections: &[],
    refusal: None,
};

static BLOBSTORAGE: SectionType = SectionType {
    name: "blobstorage",
    keys: &[KeyRule::required("blob-dir", Text)],
    sections: &[SectionRule { name: "zodb.storage", types: &STORAGES, occurs: Occurs::Once }],
    refusal: None,
};

static DEMOSTORAGE: SectionType = SectionType {
    name: "demostorage",
    keys: &[KeyRule::optional("name", Text)],
    sections: &[SectionRule { name: "zodb.storage", types: &STORAGES, occurs: Occurs::Any }],
    refusal: None,
};

static ZLIBSTORAGE: SectionType = zlib("zlibstorage");
static SERVERZLIBSTORAGE: SectionType = zlib("serverzlibstorage");

const fn zlib(name: &'static str) -> SectionType {
    const KEYS: &[KeyRule] = &[KeyRule::optional("compress", Boolean)];
    SectionType { name, keys: KEYS, sections: &ONE_STORAGE, refusal: None }
}

/// The storage inside a section that wraps it.
static ONE_STORAGE: [SectionRule; 1] =
    [SectionRule { name: "zodb.storage", types: &STORAGES, occurs: Occurs::Once }];

/// A type of section that is known by its name only.
const fn refused(name: &'static str, why: &'static str) -> SectionType {
    SectionType { name, keys: &[], sections: &[], refusal: Some(why) }
}

static SSL: SectionType =
    refused("ssl", "TLS is not supported yet: leave <ssl> out and protect the connection by other means");
static ZEOCLIENT: SectionType = refused(
    "zeoclient",
    "<zeoclient> is not supported yet: this server can't pass on another server's storage",
);
static CLIENTSTORAGE: SectionType = refused(
    "clientstorage",
    "<clientstorage> is not supported: this server can't pass on another server's storage",
);
static FULLSTORAGE: SectionType =
    refused("fullstorage", "<fullstorage> is not supported: Berkeley DB storages are gone since ZODB 3.4");
static MINIMALSTORAGE: SectionType = refused(
    "minimalstorage",
    "<minimalstorage> is not supported: Berkeley DB storages are gone since ZODB 3.4",
);

static EVENTLOG: SectionType = SectionType {
    name: "eventlog",
    keys: &[KeyRule::default("level", Own(level), "info")],
    sections: &[SectionRule {
        name: "zconfig.logger.handler",
        types: &[&LOGFILE, &NO_SYSLOG, &NO_HTTP, &NO_EMAIL, &NO_WIN32],
        occurs: Occurs::Any,
    }],
    refusal: None,
};

/// The keys that every handler has, before its own.
macro_rules! handler_keys {
    ($format:literal $(, $own:expr)* $(,)?) => {
        &[
            KeyRule::optional("formatter", DottedName),
            KeyRule::default("dateformat", Text, "%Y-%m-%dT%H:%M:%S"),
            KeyRule::default("level", Own(level), "notset"),
            KeyRule::default("style", Own(style), "classic"),
            KeyRule::default("arbitrary-fields", Boolean, "false"),
            KeyRule::default("format", Own(escaped), $format),
            $($own),*
        ]
    };
}

static LOGFILE: SectionType = SectionType {
    name: "logfile",
    keys: handler_keys!(
        "------\n%(asctime)s %(levelname)s %(name)s %(message)s",
        KeyRule::required("path", Text),
        KeyRule::default("old-files", Integer, "0"),
        KeyRule::default("max-size", ByteSize, "0"),
        KeyRule::default("when", Text, ""),
        KeyRule::default("interval", Integer, "0"),
        KeyRule::optional("encoding", Text),
        KeyRule::default("delay", Boolean, "false"),
    ),
    sections: &[],
    refusal: None,
};

static NO_SYSLOG: SectionType = refused(
    "syslog",
    "<syslog> is not supported: use <logfile> with path STDERR and let the service manager pass it on",
);
static NO_HTTP: SectionType = refused(
    "http-logger",
    "<http-logger> is not supported: use <logfile> and a log shipper that reads the file",
);
static NO_EMAIL: SectionType = refused(
    "email-notifier",
    "<email-notifier> is not supported: use <logfile> and a monitor that reads the file",
);
static NO_WIN32: SectionType =
    refused("win32-eventlog", "<win32-eventlog> is not supported: use <logfile> with a path");

/// Read by zdaemon and by nothing here, but it may be wrong, and then its author wants to know.
static RUNNER: SectionType = SectionType {
    name: "runner",
    keys: &[
        KeyRule::required("program", Words),
        KeyRule::optional("python", ExistingPath),
        KeyRule::optional("zdrun", ExistingPath),
        KeyRule::default("socket-name", Own(existing_parent), "zdsock"),
        KeyRule::default("daemon", Boolean, "on"),
        KeyRule::optional("directory", Own(existing_parent)),
        KeyRule::default("backoff-limit", Integer, "10"),
        KeyRule::default("forever", Boolean, "false"),
        KeyRule::default("exit-codes", Own(exit_codes), "0,2"),
        KeyRule::optional("start-test-program", Words),
        KeyRule::default("start-timeout", Integer, "300"),
        KeyRule::default("stop-timeout", Integer, "300"),
        KeyRule::optional("user", Text),
        KeyRule::default("umask", Own(octal), "022"),
        KeyRule::default("hang-around", Boolean, "false"),
        KeyRule::default("default-to-interactive", Boolean, "true"),
        KeyRule::optional("logfile", ExistingDirpath),
        KeyRule::optional("transcript", ExistingDirpath),
        KeyRule::optional("prompt", Text),
    ],
    sections: &[SectionRule {
        name: "zconfig.logger.log",
        types: &[&RUNNER_EVENTLOG, &RUNNER_LOGGER],
        occurs: Occurs::Optional,
    }],
    refusal: None,
};

static RUNNER_EVENTLOG: SectionType = SectionType {
    name: "eventlog",
    keys: &[KeyRule::default("level", Own(level), "info")],
    sections: &[RUNNER_HANDLERS],
    refusal: None,
};

static RUNNER_LOGGER: SectionType = SectionType {
    name: "logger",
    keys: &[
        KeyRule::default("level", Own(level), "info"),
        KeyRule::default("propagate", Boolean, "true"),
        KeyRule::optional("name", DottedName),
    ],
    sections: &[RUNNER_HANDLERS],
    refusal: None,
};

const RUNNER_HANDLERS: SectionRule = SectionRule {
    name: "zconfig.logger.handler",
    types: &[&LOGFILE, &RUNNER_SYSLOG, &RUNNER_HTTP, &RUNNER_EMAIL, &RUNNER_WIN32],
    occurs: Occurs::Any,
};

static RUNNER_SYSLOG: SectionType = SectionType {
    name: "syslog",
    keys: handler_keys!(
        "%(name)s %(message)s",
        KeyRule::default("facility", Text, "user"),
        KeyRule::default("address", SocketBindingAddress, "localhost:514"),
    ),
    sections: &[],
    refusal: None,
};

static RUNNER_HTTP: SectionType = SectionType {
    name: "http-logger",
    keys: handler_keys!(
        "%(asctime)s %(levelname)s %(name)s %(message)s",
        KeyRule::default("url", Own(url), "http://localhost/"),
        KeyRule::default("method", Text, "GET"),
    ),
    sections: &[],
    refusal: None,
};

static RUNNER_EMAIL: SectionType = SectionType {
    name: "email-notifier",
    keys: handler_keys!(
        "%(asctime)s %(levelname)s %(name)s %(message)s",
        KeyRule::required("from", Text),
        KeyRule::required("to", Text).repeated(),
        KeyRule::default("subject", Text, "Message from Zope"),
        KeyRule::default("smtp-server", InetAddress, "localhost"),
        KeyRule::default("smtp-username", Text, ""),
        KeyRule::default("smtp-password", Text, ""),
    ),
    sections: &[],
    refusal: None,
};

static RUNNER_WIN32: SectionType = SectionType {
    name: "win32-eventlog",
    keys: handler_keys!("%(levelname)s %(name)s %(message)s", KeyRule::default("appname", Text, "Zope")),
    sections: &[],
    refusal: None,
};
