//! The life of a server process: address, pid file, storages, signals, listening, and the end of all that.

use crate::{
    descriptors,
    eventlog::EventLog,
    open::{OpenError, close, open_storages},
    pid_file::PidFile,
    settings::StorageSettings,
};
use std::{
    fmt, io,
    net::{TcpStream, ToSocketAddrs},
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};
use zeolith_config::quoted;
use zeolith_interpreter::ProcessResolver;
use zeolith_server::{Address, Server, StartError};

/// Everything that a server needs to know.
pub(crate) struct Plan {
    pub(crate) address: Address,
    pub(crate) server: zeolith_server::Settings,
    pub(crate) storages: Vec<StorageSettings>,
    /// The process that resolves conflicts of an application's own classes.
    pub(crate) resolver: Option<zeolith_interpreter::Settings>,
    pub(crate) pid_file: Option<PathBuf>,
    /// Stop as soon as the server listens.
    pub(crate) test: bool,
}

/// How a server ended in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to stop, or was only a test.
    Stopped,
    /// It was told to restart: its keeper starts it again if it says that it failed.
    Restart,
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Somebody else listens there.
    #[error("address {} already in use", PythonAddress(.0))]
    AddressInUse(Address),
    /// The path of the socket is taken by something that is no socket.
    #[error("the socket's path {} exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// A storage can't be opened.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// The server can't listen.
    #[error(transparent)]
    Start(StartError),
    /// The operating system lacks something.
    #[error("can't {0}: {1}")]
    System(&'static str, io::Error),
}

/// Runs a server until a signal ends it. `ready` is told the addresses that it listens on.
///
/// `log` is the configured event log, if there is one, which SIGUSR2 opens again.
pub(crate) fn run(
    plan: &Plan,
    log: Option<&EventLog>,
    ready: impl FnOnce(&[String]),
) -> Result<End, Failure> {
    check_address(&plan.address)?;
    // A server that writes nothing leaves no trace of itself either.
    let path = plan.pid_file.as_deref().filter(|_| !plan.server.read_only);
    let _pid_file = path.and_then(PidFile::write);
    // Accepts, listens to signals and keeps timers; connections have threads of their own.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::System("start an event loop", error))?;
    let mut settings = plan.server.clone();
    settings.connections_max = descriptors::raise(settings.connections_max);
    let end = runtime.block_on(serve(plan, settings, log, ready));
    // Whatever still waits for a disk or a peer has nothing to say any more.
    runtime.shutdown_timeout(Duration::from_secs(1));
    end
}

async fn serve(
    plan: &Plan,
    settings: zeolith_server::Settings,
    log: Option<&EventLog>,
    ready: impl FnOnce(&[String]),
) -> Result<End, Failure> {
    let mut signals = Signals::install().map_err(|error| Failure::System("handle signals", error))?;
    let sections = plan.storages.clone();
    let process = plan.resolver.clone().map(|settings| Arc::new(ProcessResolver::start(settings)));
    let mut opening = tokio::task::spawn_blocking(move || open_storages(&sections, process.as_ref()));
    let storages = tokio::select! {
        opened = &mut opening => opened.map_err(|error| Failure::System("open the storages", error.into()))??,
        // Opening changes nothing that a crash could not leave behind, so nobody waits for it.
        end = signals.end(log) => return Ok(end),
    };
    let held = storages.clone();
    let server = match Server::start(&plan.address, settings, storages).await {
        Ok(server) => server,
        Err(error) => {
            close(&held);
            return Err(match error {
                StartError::AddressInUse(address) => Failure::AddressInUse(address),
                other => Failure::Start(other),
            });
        }
    };
    drop(held);
    ready(&server.local_addresses());
    let end = if plan.test { End::Stopped } else { signals.end(log).await };
    // The server has logged which storages were not closed in good order; their data is safe.
    let _ = server.stop().await;
    Ok(end)
}

/// The signals that a server listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user2: Signal,
    /// Installed so that a file size limit is an error of one write, and not the end of the process.
    _file_size: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user2: signal(SignalKind::user_defined2())?,
            _file_size: signal(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    /// Waits for a signal that ends the server; the log is opened again meanwhile as often as asked.
    async fn end(&mut self, log: Option<&EventLog>) -> End {
        let pid = std::process::id();
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {
                    tracing::info!(target: "ZEO.runzeo", "({pid}) terminated by SIGTERM");
                    return End::Stopped;
                }
                _ = self.interrupt.recv() => {
                    tracing::info!(target: "ZEO.runzeo", "({pid}) terminated by SIGINT");
                    return End::Stopped;
                }
                _ = self.hangup.recv() => {
                    tracing::info!(target: "ZEO.runzeo", "({pid}) restarted by SIGHUP");
                    return End::Restart;
                }
                _ = self.user2.recv() => match log {
                    Some(log) => {
                        log.reopen();
                        tracing::info!(target: "ZEO.runzeo", "({pid}) Log files reopened successfully");
                    }
                    None => {
                        let message = "received SIGUSR2, but it was not handled!";
                        tracing::warn!(target: "ZEO.runzeo", "({pid}) {message}");
                    }
                },
            }
        }
    }
}

/// Makes sure, before a storage is touched, that nobody else serves this address.
fn check_address(address: &Address) -> Result<(), Failure> {
    let answers = match address {
        Address::Tcp { port: 0, .. } => false,
        Address::Tcp { host, port } => {
            let host = if host.is_empty() { "127.0.0.1" } else { host };
            let addresses = (host, *port).to_socket_addrs().into_iter().flatten();
            addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, PROBE_TIMEOUT).is_ok())
        }
        Address::Unix(path) => socket_answers(path)?,
    };
    if answers { Err(Failure::AddressInUse(address.clone())) } else { Ok(()) }
}

fn socket_answers(path: &Path) -> Result<bool, Failure> {
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.file_type().is_socket() => Err(Failure::NotASocket(path.to_owned())),
        Ok(_) => Ok(UnixStream::connect(path).is_ok()),
        Err(_) => Ok(false),
    }
}

/// An address as the reference shows it.
struct PythonAddress<'a>(&'a Address);

impl fmt::Display for PythonAddress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Address::Tcp { host, port } => write!(f, "({}, {port})", quoted(host)),
            Address::Unix(path) => f.write_str(&quoted(&path.to_string_lossy())),
        }
    }
}

const SIGXFSZ: i32 = 25;
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
