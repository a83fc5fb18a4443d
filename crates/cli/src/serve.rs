//! `zeolith serve`: serves a file with no configuration at all, and says how to connect to it.

use crate::{
    descriptors,
    eventlog::{EventLog, LogSettings},
    output::{complain, say},
    service::{self, End, Plan},
    settings::{
        FileSettings, StorageKind, StorageSettings, listen_address, msgpack_from_environment,
        resolver_from_environment, seconds,
    },
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};
use zeolith_config::{SocketAddress, quoted};
use zeolith_server::{Address, Settings};

/// The options of `zeolith serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The database file; it and its directory are made if they are missing
    #[arg(default_value = "var/Data.fs")]
    path: PathBuf,
    /// Where to listen: PORT, HOST:PORT, [IPV6]:PORT, or the path of a Unix socket
    #[arg(short, long, default_value = "127.0.0.1:8100", value_parser = address)]
    address: Address,
    /// Take no writes
    #[arg(long)]
    read_only: bool,
    /// Abort a transaction that holds its locks longer than this
    #[arg(short, long, value_name = "SECONDS", value_parser = timeout)]
    timeout: Option<f64>,
    /// Speak msgpack instead of pickle with clients that can
    #[arg(long)]
    msgpack: bool,
    /// Write this process's pid to a file
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,
}

fn address(text: &str) -> Result<Address, String> {
    // A bare port is meant for this machine here: nobody has decided to open it to the world.
    SocketAddress::parse(text, "127.0.0.1").map(|address| listen_address(&address))
}

fn timeout(text: &str) -> Result<f64, String> {
    let timeout = zeolith_config::real(text)?;
    if timeout > 0.0 { Ok(timeout) } else { Err("a timeout must be more than 0".to_owned()) }
}

/// Serves until a signal ends it.
pub(crate) fn run(options: Options) -> ExitCode {
    // Before the log, which has a thread.
    descriptors::make_room(Settings::default().connections_max);
    let log = match prepare(&options) {
        Ok(log) => log,
        Err(message) => return failed(&message),
    };
    let mut file = FileSettings::new(&options.path);
    file.read_only = options.read_only;
    let plan = Plan {
        address: options.address,
        server: Settings {
            read_only: options.read_only,
            transaction_timeout: options.timeout.map(seconds),
            msgpack: options.msgpack || msgpack_from_environment(),
            ..Settings::default()
        },
        storages: vec![StorageSettings { name: "1".to_owned(), kind: StorageKind::File(file) }],
        resolver: resolver_from_environment(),
        pid_file: options.pid_file,
        test: false,
    };
    let ready = |addresses: &[String]| {
        // On a terminal both streams are one: what was logged before stands before.
        log.flush();
        say(welcome(&options.path, &plan.address, addresses));
    };
    match service::run(&plan, None, ready) {
        Ok(End::Stopped) => ExitCode::SUCCESS,
        Ok(End::Restart) => ExitCode::from(1),
        Err(failure) => {
            drop(log);
            failed(&failure.to_string())
        }
    }
}

fn prepare(options: &Options) -> Result<EventLog, String> {
    if !options.read_only
        && let Some(directory) = options.path.parent().filter(|directory| !directory.as_os_str().is_empty())
    {
        fs::create_dir_all(directory)
            .map_err(|error| format!("can't make the directory {}: {error}", directory.display()))?;
    }
    EventLog::install(LogSettings::terminal()).map_err(|error| format!("can't start the log: {error}"))
}

fn failed(message: &str) -> ExitCode {
    complain(format!("Error: {message}"));
    ExitCode::from(1)
}

/// How to connect, for somebody who has never done it.
fn welcome(path: &Path, address: &Address, listening: &[String]) -> String {
    let (python, config) = match address {
        Address::Unix(socket) => {
            let socket = std::path::absolute(socket).unwrap_or_else(|_| socket.clone());
            (quoted(&socket.to_string_lossy()), socket.display().to_string())
        }
        Address::Tcp { host, .. } => {
            let bound = listening.first().map(String::as_str).unwrap_or_default();
            let port = bound.rsplit(':').next().unwrap_or_default();
            let host = if host.is_empty() { "127.0.0.1" } else { host };
            let config =
                if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            let python =
                if host == "127.0.0.1" { port.to_owned() } else { format!("({}, {port})", quoted(host)) };
            (python, config)
        }
    };
    format!(
        "\
Zeolith {version} serves {path} on {listening}.

From Python:
    import ZEO
    connection = ZEO.connection({python})   # a ZODB connection: connection.root()
    storage = ZEO.client({python})          # or the storage: ZODB.DB(storage)

In zope.conf, or any ZODB configuration:
    <zodb_db main>
      mount-point /
      <zeoclient>
        server {config}
      </zeoclient>
    </zodb_db>

Press Ctrl-C to stop.
",
        version = env!("CARGO_PKG_VERSION"),
        path = path.display(),
        listening = listening.join(" and "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, listening: &str) -> String {
        welcome(Path::new("var/Data.fs"), &address(text).unwrap(), &[listening.to_owned()])
    }

    #[test]
    fn the_welcome_names_the_port_that_was_given() {
        let text = told("127.0.0.1:0", "127.0.0.1:34567");
        assert!(text.contains("ZEO.connection(34567)") && text.contains("server 127.0.0.1:34567"), "{text}");
        let text = told("[::1]:8100", "[::1]:8100");
        assert!(
            text.contains("ZEO.connection(('::1', 8100))") && text.contains("server [::1]:8100"),
            "{text}"
        );
        let text = told("/run/zeo.sock", "/run/zeo.sock");
        assert!(text.contains("ZEO.connection('/run/zeo.sock')"), "{text}");
    }

    #[test]
    fn a_bare_port_stays_on_this_machine() {
        assert_eq!(address("8100").unwrap(), Address::Tcp { host: "127.0.0.1".into(), port: 8100 });
    }
}
