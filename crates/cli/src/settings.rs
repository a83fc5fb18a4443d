//! From a configuration file to typed settings of a server.
//!
//! The only place that knows the names of sections and keys. What comes out can be acted upon without
//! a further look at the file.

mod imports;
mod logging;
mod resolver;
mod schema;
mod values;

use std::{fmt, path::PathBuf, time::Duration};
use zeolith_config::{Checked, ConfigError, Document, SocketAddress, System, check};
use zeolith_server::Address;

pub use crate::eventlog::LogSettings;
pub use resolver::resolver_from_environment;

/// What a configuration file says.
#[derive(Debug)]
pub struct ServerSettings {
    /// `address`.
    pub address: Address,
    /// The other keys of `<zeo>`.
    pub server: zeolith_server::Settings,
    /// `conflict-resolver` and the keys that go with it.
    pub resolver: Option<zeolith_interpreter::Settings>,
    /// `pid-filename`.
    pub pid_file: Option<PathBuf>,
    /// The storage sections in the order of the file.
    pub storages: Vec<StorageSettings>,
    /// `<eventlog>`.
    pub event_log: Option<LogSettings>,
}

/// One storage section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// The name of the section, or 1 for the one without a name.
    pub name: String,
    /// What is behind it.
    pub kind: StorageKind,
}

/// A kind of storage that can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageKind {
    /// `<filestorage>`.
    File(FileSettings),
    /// `<mappingstorage>`, with the name that it tells its clients.
    Memory(String),
    /// `<demostorage>`.
    Demo(DemoSettings),
    /// `<zlibstorage>` and `<serverzlibstorage>`.
    Zlib(ZlibSettings),
    /// `<blobstorage>`.
    Blob(BlobSettings),
}

/// The keys and sections of `<demostorage>`. A storage that is left out is an empty one in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoSettings {
    /// `name`.
    pub name: Option<String>,
    /// The section that is not named `changes`: what is there and stays as it is.
    pub base: Option<Box<StorageKind>>,
    /// The section named `changes`: where transactions go.
    pub changes: Option<Box<StorageKind>>,
}

/// The keys and the section of `<zlibstorage>` and `<serverzlibstorage>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZlibSettings {
    /// `compress`: new records are compressed.
    pub compress: bool,
    /// `<serverzlibstorage>`: clients compress and decompress.
    pub clients_compress: bool,
    /// The storage inside.
    pub base: Box<StorageKind>,
}

/// The key and the section of `<blobstorage>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobSettings {
    /// `blob-dir`.
    pub directory: PathBuf,
    /// The storage that gets blobs.
    pub inner: Box<StorageKind>,
}

/// The keys of `<filestorage>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// `path`.
    pub path: PathBuf,
    /// `blob-dir`, if it is to have blobs.
    pub blob_directory: Option<PathBuf>,
    /// `create`: throw away what is there.
    pub create: bool,
    /// `read-only`.
    pub read_only: bool,
    /// `quota` in bytes.
    pub quota: Option<u64>,
    /// `pack-gc`.
    pub pack_gc: bool,
    /// `pack-keep-old`.
    pub pack_keep_old: bool,
    /// `pack-rate-max` in bytes a second.
    pub pack_rate_max: Option<u64>,
}

impl FileSettings {
    /// A file with every other key left out.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let (blob_directory, quota, pack_rate_max) = (None, None, None);
        let (create, read_only, pack_gc, pack_keep_old) = (false, false, true, true);
        Self { path, blob_directory, create, read_only, quota, pack_gc, pack_keep_old, pack_rate_max }
    }
}

impl StorageKind {
    /// The class that the reference has for it.
    pub fn class(&self) -> &'static str {
        match self {
            Self::File(_) => "FileStorage",
            Self::Memory(_) => "MappingStorage",
            Self::Demo(_) => "DemoStorage",
            Self::Zlib(ZlibSettings { clients_compress: false, .. }) => "ZlibStorage",
            Self::Zlib(ZlibSettings { clients_compress: true, .. }) => "ServerZlibStorage",
            Self::Blob(_) => "BlobStorage",
        }
    }
}

/// In a few words, for people.
impl fmt::Display for StorageKind {
    /// As deep as the sections, whose depth the configuration's grammar bounds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class())?;
        match self {
            Self::File(file) => {
                write!(f, " {}", file.path.display())?;
                match &file.blob_directory {
                    Some(directory) => write!(f, " (blobs in {})", directory.display()),
                    None => Ok(()),
                }
            }
            Self::Memory(name) => write!(f, " {name}"),
            Self::Blob(BlobSettings { directory, inner }) => {
                write!(f, " (blobs in {}; {inner})", directory.display())
            }
            Self::Demo(demo) => {
                let part = |part: &Option<Box<Self>>| {
                    part.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string)
                };
                write!(f, " (base: {}; changes: {})", part(&demo.base), part(&demo.changes))
            }
            Self::Zlib(zlib) => write!(f, " ({})", zlib.base),
        }
    }
}

/// Reads a configuration file, with values from the command line in place of its own.
///
/// # Errors
/// Names the file, the line and what is wrong with it.
pub fn load(location: &str, overrides: &[String]) -> Result<ServerSettings, ConfigError> {
    let mut document = zeolith_config::load(location, &System)?;
    document.apply_overrides(overrides)?;
    from_document(&document)
}

fn from_document(document: &Document) -> Result<ServerSettings, ConfigError> {
    imports::check(document)?;
    let top = check(document, &schema::SERVER, &System)?;
    let zeo = top.sections_of("zeo").next().expect("the schema requires <zeo>");
    let storages = top.sections.iter().filter_map(|section| Some((section.name.clone(), storage(section)?)));
    let storages: Vec<_> =
        storages.map(|(name, kind)| kind.map(|kind| (name, kind))).collect::<Result<_, _>>()?;
    Ok(ServerSettings {
        address: zeo.address("address").map(listen_address).expect("the schema requires an address"),
        server: server(zeo)?,
        resolver: resolver::resolver(zeo)?,
        pid_file: zeo.path("pid-filename").map(PathBuf::from),
        storages: named(storages).map_err(ConfigError::new)?,
        event_log: top.sections_of("eventlog").next().map(logging::event_log).transpose()?,
    })
}

/// The address to listen on; a host without a port gets any free one.
pub fn listen_address(address: &SocketAddress) -> Address {
    match address {
        SocketAddress::Unix(path) => Address::Unix(path.clone()),
        SocketAddress::Inet(inet) => {
            Address::Tcp { host: inet.host.clone(), port: inet.port.unwrap_or_default() }
        }
    }
}

fn server(zeo: &Checked) -> Result<zeolith_server::Settings, ConfigError> {
    let bad = |key, message: &str| zeo.key_error(key, message);
    let queue_size = zeo.integer("invalidation-queue-size").unwrap_or(100);
    let queue_size =
        usize::try_from(queue_size).ok().filter(|size| *size <= QUEUE_SIZE_MAX).ok_or_else(|| {
            bad(
                "invalidation-queue-size",
                &format!("invalidation-queue-size must be from 0 to {QUEUE_SIZE_MAX}"),
            )
        })?;
    let age = zeo.float("invalidation-age").map(|age| {
        if age.is_nan() {
            return Err(bad("invalidation-age", "invalidation-age is not a number"));
        }
        Ok(seconds(age.max(0.0)))
    });
    let timeout = zeo.integer("transaction-timeout").map(|timeout| {
        let message = "transaction-timeout must be at least 1 second; leave it out for no timeout";
        u32::try_from(timeout)
            .ok()
            .filter(|timeout| *timeout > 0)
            .ok_or_else(|| bad("transaction-timeout", message))
    });
    Ok(zeolith_server::Settings {
        read_only: zeo.boolean("read-only").unwrap_or(false),
        invalidation_queue_size: queue_size,
        invalidation_age: age.transpose()?,
        transaction_timeout: timeout.transpose()?.map(|timeout| Duration::from_secs(timeout.into())),
        client_conflict_resolution: zeo.boolean("client-conflict-resolution").unwrap_or(false),
        msgpack: zeo.boolean("msgpack").unwrap_or_else(msgpack_from_environment),
        frame_size_max: positive(zeo, "frame-size-max")? as usize,
        hello_timeout: Duration::from_secs(positive(zeo, "hello-timeout")?.into()),
        register_timeout: Duration::from_secs(positive(zeo, "register-timeout")?.into()),
        frame_timeout: Duration::from_secs(positive(zeo, "frame-timeout")?.into()),
        connections_max: positive(zeo, "connections-max")? as usize,
        unregistered_connections_max: positive(zeo, "unregistered-connections-max")? as usize,
        client_queue_max: positive(zeo, "client-queue-max")? as usize,
        client_lag_max: positive(zeo, "client-lag-max")? as usize,
        iterators_max: positive(zeo, "iterators-max")? as usize,
        busy_poll: busy_poll(zeo)?,
        transaction_memory_max: size(zeo, "transaction-memory-max")?,
        transaction_size_max: size(zeo, "transaction-size-max")?,
        temporary_directory: zeo.path("temporary-directory").map_or_else(std::env::temp_dir, PathBuf::from),
        ..zeolith_server::Settings::default()
    })
}

/// A limit that has a default and must not be nothing. Frames have 32-bit lengths, so that is its bound too.
fn positive(zeo: &Checked, key: &'static str) -> Result<u32, ConfigError> {
    let value = zeo.integer(key).and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0);
    value.ok_or_else(|| zeo.key_error(key, format!("{key} must be from 1 to {}", u32::MAX)))
}

/// Microseconds; more than a hundredth of a second would be a processor that does nothing else.
fn busy_poll(zeo: &Checked) -> Result<Duration, ConfigError> {
    let value = zeo.integer("busy-poll").and_then(|value| u64::try_from(value).ok());
    let value = value.filter(|value| *value <= 10_000);
    let message = "busy-poll must be from 0 to 10000 microseconds";
    value.map(Duration::from_micros).ok_or_else(|| zeo.key_error("busy-poll", message))
}

/// A number of bytes, of any size.
fn size(zeo: &Checked, key: &'static str) -> Result<u64, ConfigError> {
    let value = zeo.integer(key).and_then(|value| u64::try_from(value).ok());
    value.ok_or_else(|| zeo.key_error(key, format!("{key} can't be less than zero")))
}

/// What stands for the key `msgpack` where it is not given.
pub fn msgpack_from_environment() -> bool {
    std::env::var_os("ZEO_MSGPACK").is_some_and(|value| !value.is_empty())
}

/// A number of seconds as a duration; more than a century is a century.
pub fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).map_or(CENTURY, |duration| duration.min(CENTURY))
}

/// What a section describes, if it is a storage.
fn storage(section: &Checked) -> Option<Result<StorageKind, ConfigError>> {
    match section.kind {
        "filestorage" => Some(file_storage(section).map(StorageKind::File)),
        "mappingstorage" => {
            let name = section.text("name").unwrap_or_default().to_owned();
            Some(Ok(StorageKind::Memory(name)))
        }
        "blobstorage" => Some(blob_storage(section).map(StorageKind::Blob)),
        "demostorage" => Some(demo_storage(section).map(StorageKind::Demo)),
        "zlibstorage" => Some(zlib_storage(section, false)),
        "serverzlibstorage" => Some(zlib_storage(section, true)),
        _ => None,
    }
}

/// The storages inside a section, with their sections.
fn inner_storages(
    section: &Checked,
) -> impl Iterator<Item = (&Checked, Result<Box<StorageKind>, ConfigError>)> {
    section.sections.iter().filter_map(|inner| Some((inner, storage(inner)?.map(Box::new))))
}

/// The one storage inside a section that wraps it.
fn base_storage(section: &Checked) -> Result<Box<StorageKind>, ConfigError> {
    inner_storages(section).next().expect("the schema requires a storage inside").1
}

fn zlib_storage(section: &Checked, clients_compress: bool) -> Result<StorageKind, ConfigError> {
    let compress = section.boolean("compress").unwrap_or(true);
    let base = base_storage(section)?;
    Ok(StorageKind::Zlib(ZlibSettings { compress, clients_compress, base }))
}

fn demo_storage(section: &Checked) -> Result<DemoSettings, ConfigError> {
    let name = section.text("name").map(str::to_owned);
    let mut demo = DemoSettings { name, base: None, changes: None };
    for (inner, kind) in inner_storages(section) {
        // Names are unique in a section, so there is no second one.
        if inner.name.as_deref() == Some("changes") {
            demo.changes = Some(kind?);
        } else if demo.base.is_none() {
            demo.base = Some(kind?);
        } else {
            let message = "Too many base storages defined! A <demostorage> has one base, and at most one other \
                           storage inside, which is named changes";
            return Err(inner.error(message));
        }
    }
    Ok(demo)
}

fn blob_storage(section: &Checked) -> Result<BlobSettings, ConfigError> {
    let directory = PathBuf::from(section.text("blob-dir").unwrap_or_default());
    if directory.as_os_str().is_empty() {
        return Err(section.key_error("blob-dir", "blob-dir is empty: name the directory of the blobs"));
    }
    Ok(BlobSettings { directory, inner: base_storage(section)? })
}

fn file_storage(section: &Checked) -> Result<FileSettings, ConfigError> {
    let quota = section.integer("quota").map(|quota| {
        u64::try_from(quota).map_err(|_| section.key_error("quota", "quota can't be less than zero"))
    });
    let pack_rate_max = section.integer("pack-rate-max").map(|rate| {
        let message = "pack-rate-max must be more than 0; leave it out for no limit";
        u64::try_from(rate)
            .ok()
            .filter(|rate| *rate > 0)
            .ok_or_else(|| section.key_error("pack-rate-max", message))
    });
    let settings = FileSettings {
        path: section.path("path").map(PathBuf::from).expect("the schema requires a path"),
        // An empty one is none.
        blob_directory: section
            .path("blob-dir")
            .filter(|path| !path.as_os_str().is_empty())
            .map(PathBuf::from),
        create: section.boolean("create").unwrap_or(false),
        read_only: section.boolean("read-only").unwrap_or(false),
        quota: quota.transpose()?,
        pack_gc: section.boolean("pack-gc").unwrap_or(true),
        pack_keep_old: section.boolean("pack-keep-old").unwrap_or(true),
        pack_rate_max: pack_rate_max.transpose()?,
    };
    if settings.path.as_os_str().is_empty() {
        return Err(section.key_error("path", "path is empty: name the file of the storage"));
    }
    if settings.create && settings.read_only {
        return Err(section.key_error("create", "can't create a read-only file"));
    }
    Ok(settings)
}

/// Gives the one storage without a name the name 1.
fn named(storages: Vec<(Option<String>, StorageKind)>) -> Result<Vec<StorageSettings>, &'static str> {
    let unnamed = storages.iter().filter(|(name, _)| name.is_none()).count();
    if unnamed > 1 {
        return Err("No more than one storage may be unnamed.");
    }
    if unnamed == 1 && storages.iter().any(|(name, _)| name.as_deref() == Some("1")) {
        return Err("Can't have an unnamed storage and a storage named 1.");
    }
    let name = |name: Option<String>| name.unwrap_or_else(|| "1".to_owned());
    Ok(storages.into_iter().map(|(given, kind)| StorageSettings { name: name(given), kind }).collect())
}

/// Each remembered transaction costs memory as long as the server runs.
const QUEUE_SIZE_MAX: usize = 1_000_000;
const CENTURY: Duration = Duration::from_secs(100 * 365 * 86400);

#[cfg(test)]
mod tests;
