//! Starting and stopping: listeners, timers, log writers.

use crate::{
    acceptor::Acceptor,
    address::{Address, Listener, listen},
    clock::Clock,
    connection::Shared,
    host::{Host, Mail},
    log, packing,
    settings::{NamedStorage, Settings},
    workers::Workers,
};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, atomic::AtomicU64},
    thread,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use zeolith_storage::StorageError;

/// A server that listens. Dropping it without [`Server::stop`] leaves storages to their crash recovery.
pub struct Server {
    addresses: Vec<String>,
    stop: watch::Sender<bool>,
    acceptors: Vec<JoinHandle<()>>,
    timers: JoinSet<()>,
    workers: Arc<Workers>,
    hosts: Vec<Arc<Host>>,
    log_writers: Vec<thread::JoinHandle<()>>,
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else listens there.
    #[error("address {0} is already in use; stop the other server or choose another address with -a")]
    AddressInUse(Address),
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// What was asked for.
        address: Address,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system has no more threads or files for us.
    #[error("can't start the threads that serve connections: {0}")]
    Workers(io::Error),
    /// A storage can't be read.
    #[error("storage '{name}': {source}")]
    Storage {
        /// Its name.
        name: String,
        /// What is wrong.
        source: StorageError,
    },
}

impl Server {
    /// Listens on `address` and serves `storages`. Connections are accepted when this returns.
    ///
    /// # Errors
    /// [`StartError`] says what is in the way.
    pub async fn start(
        address: &Address,
        settings: Settings,
        storages: Vec<NamedStorage>,
    ) -> Result<Self, StartError> {
        let clock = Clock::start();
        let listeners = listen(address).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => StartError::AddressInUse(address.clone()),
            _ => StartError::Listen { address: address.clone(), source },
        })?;
        let started = ctime();
        let mut hosts = BTreeMap::new();
        let mut log_writers = Vec::new();
        for storage in storages {
            let name = storage.name.clone();
            let (host, writer) = Host::start(storage, &settings, clock, started.clone())
                .map_err(|source| StartError::Storage { name: name.clone(), source })?;
            log_writers.push(writer);
            hosts.insert(name, host);
        }
        tracing::info!(target: log::STORAGE_SERVER, "{}", describe(&settings, &hosts));
        let timers = start_timers(&hosts, &settings);
        let hosts_list = hosts.values().cloned().collect();
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared { settings, hosts, limits: Arc::default() });
        let workers = Workers::start(processors, &shared);
        let workers = Arc::new(workers.map_err(StartError::Workers)?);
        let stop = watch::Sender::new(false);
        let addresses: Vec<String> = listeners.iter().map(Listener::local_address).collect();
        let sessions = Arc::new(AtomicU64::new(0));
        let mut acceptors = Vec::new();
        for listener in listeners {
            tracing::info!(target: log::PROTOCOL, "listening on {}", listener.local_address());
            let entered = workers.accepting().spawn(async { Acceptor::enter(listener) });
            let entered = entered.await.map_err(io::Error::other).flatten();
            let acceptor =
                entered.map_err(|source| StartError::Listen { address: address.clone(), source })?;
            let accepting = acceptor.accept(Arc::clone(&workers), Arc::clone(&sessions), stop.subscribe());
            acceptors.push(workers.accepting().spawn(accepting));
        }
        Ok(Self { addresses, stop, acceptors, timers, workers, hosts: hosts_list, log_writers })
    }

    /// The addresses that the server really listens on, with the ports that it was given.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    /// Stops in good order: no new connections, no more calls, what is being written is written, then the
    /// storages are closed.
    ///
    /// # Errors
    /// The names of the storages that could not be closed in good order, and why. Their data is safe.
    pub async fn stop(mut self) -> Result<(), Vec<(String, StorageError)>> {
        self.stop.send_replace(true);
        for acceptor in self.acceptors {
            // An acceptor that panicked has nothing left to stop.
            let _ = acceptor.await;
        }
        self.timers.shutdown().await;
        let (workers, hosts, log_writers) = (self.workers, self.hosts, self.log_writers);
        let closing = tokio::task::spawn_blocking(move || {
            let workers = Arc::into_inner(workers).expect("the acceptors, which share it, have ended");
            workers.stop();
            close(&hosts, log_writers)
        });
        let failed = closing.await.unwrap_or_default();
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }
}

fn close(hosts: &[Arc<Host>], log_writers: Vec<thread::JoinHandle<()>>) -> Vec<(String, StorageError)> {
    hosts.iter().for_each(|host| packing::stop(host));
    hosts.iter().for_each(|host| host.stop_finishing());
    for writer in log_writers {
        let _ = writer.join();
    }
    let mut failed = Vec::new();
    for host in hosts {
        tracing::info!(target: log::STORAGE_SERVER, "closing storage '{}'", host.name);
        if let Err(error) = host.storage.close() {
            tracing::error!(target: log::STORAGE_SERVER, "closing storage '{}': {error}", host.name);
            failed.push((host.name.clone(), error));
        }
    }
    failed
}

fn start_timers(hosts: &BTreeMap<String, Arc<Host>>, settings: &Settings) -> JoinSet<()> {
    let mut timers = JoinSet::new();
    for host in hosts.values() {
        if settings.transaction_timeout.is_some() {
            timers.spawn(expire_transactions(Arc::clone(host)));
        }
        timers.spawn(checkpoint(Arc::clone(host), settings.checkpoint_interval));
        timers.spawn(rest(Arc::clone(host)));
    }
    timers
}

/// Tells sessions that hold their locks for too long.
async fn expire_transactions(host: Arc<Host>) {
    loop {
        let deadline = host.coordinator().next_deadline();
        match deadline {
            None => host.deadline_set.notified().await,
            Some(deadline) => tokio::time::sleep_until(host.clock.instant(deadline).into()).await,
        }
        let expired = host.coordinator().expire(host.clock.now());
        for expired in expired {
            host.send(expired.session, Mail::TimedOut(expired.timeout));
        }
    }
}

/// Lets the storage save its index now and then; at once, if it had to be built from the file.
async fn checkpoint(host: Arc<Host>, interval: Duration) {
    loop {
        let storage = Arc::clone(&host.storage);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || storage.checkpoint()).await {
            tracing::warn!(target: log::STORAGE_SERVER, "('{}') checkpoint: {error}", host.name);
        }
        tokio::time::sleep(interval).await;
    }
}

/// Lets the storage rest when commits pause. While there are none, this does nothing either.
async fn rest(host: Arc<Host>) {
    let mut published = host.published.subscribe();
    while published.changed().await.is_ok() {
        loop {
            tokio::time::sleep(REST_AFTER).await;
            if !published.has_changed().unwrap_or(false) {
                break;
            }
            published.mark_unchanged();
        }
        let storage = Arc::clone(&host.storage);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || storage.rest()).await {
            tracing::warn!(target: log::STORAGE_SERVER, "('{}') at rest: {error}", host.name);
        }
    }
}

/// `StorageServer created RW with storages: 1:RW:Data.fs`, as tools look for it.
fn describe(settings: &Settings, hosts: &BTreeMap<String, Arc<Host>>) -> String {
    let mode = |read_only| if read_only { "RO" } else { "RW" };
    let storages: Vec<String> = hosts
        .values()
        .map(|host| format!("{}:{}:{}", host.name, mode(host.read_only), host.storage.info().name))
        .collect();
    format!("StorageServer created {} with storages: {}", mode(settings.read_only), storages.join(", "))
}

/// The local time as C's `ctime` writes it: `Sun Nov 22 01:16:10 2026`.
fn ctime() -> String {
    jiff::Zoned::now().strftime("%a %b %e %H:%M:%S %Y").to_string()
}

/// A storage that has published nothing for so long may rest.
const REST_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{self, Scripted};
    use std::sync::{Mutex, mpsc};

    #[tokio::test]
    async fn an_index_that_had_to_be_built_is_saved_before_the_first_interval_is_over() {
        let (heard, checkpoints) = mpsc::channel();
        let (host, _) =
            scripted::host(Scripted { checkpoints: Some(Mutex::new(heard)), ..Scripted::default() });
        let settings = Settings { checkpoint_interval: Duration::from_secs(3600), ..Settings::default() };
        let _timers = start_timers(&BTreeMap::from([("1".to_owned(), host)]), &settings);
        let first = tokio::task::spawn_blocking(move || checkpoints.recv_timeout(Duration::from_secs(60)));
        assert_eq!(first.await.unwrap(), Ok(()));
    }
}
