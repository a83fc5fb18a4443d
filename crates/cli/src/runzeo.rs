//! The `runzeo` command: the reference's options, texts and exit codes around our server.
//!
//! What is wrong with the command line or the configuration ends with 2, as zdaemon expects of a program
//! that should not be started again; what goes wrong afterwards, and SIGHUP, with 1.

use crate::{
    descriptors,
    eventlog::{EventLog, LogSettings},
    getopt::{Given, Known, getopt},
    output::{complain, say},
    service::{self, End, Failure, Plan},
    settings::{
        self, FileSettings, ServerSettings, StorageKind, StorageSettings, listen_address,
        msgpack_from_environment, resolver_from_environment, seconds,
    },
};
use std::{ffi::OsString, path::PathBuf, process::ExitCode};
use zeolith_config::{SocketAddress, quoted, real};
use zeolith_server::Address;

/// Runs the command and gives its exit code.
pub fn main(program: &str, arguments: Vec<OsString>) -> ExitCode {
    match Options::read(arguments).and_then(|options| start(program, options)) {
        Ok(code) => code,
        Err(Trouble::Usage(message)) => {
            complain(format!("Error: {message}\nFor help, use {program} -h"));
            ExitCode::from(USAGE)
        }
        Err(Trouble::Failure(message)) => {
            complain(format!("Error: {message}"));
            ExitCode::from(FAILED)
        }
    }
}

/// What ends the command before or instead of serving.
enum Trouble {
    Usage(String),
    Failure(String),
}

/// What the command line says.
#[derive(Debug, Default, PartialEq)]
struct Options {
    help: bool,
    version: bool,
    test: bool,
    configuration: Option<String>,
    overrides: Vec<String>,
    address: Option<Address>,
    files: Vec<PathBuf>,
    timeout: Option<f64>,
    pid_file: Option<PathBuf>,
}

impl Options {
    fn read(arguments: Vec<OsString>) -> Result<Self, Trouble> {
        let (given, rest) = getopt(arguments, &KNOWN).map_err(Trouble::Usage)?;
        if !rest.is_empty() {
            return Err(Trouble::Usage("positional arguments are not supported".to_owned()));
        }
        let mut options = Self::default();
        for option in given {
            options.take(option).map_err(Trouble::Usage)?;
            if options.help || options.version {
                break;
            }
        }
        Ok(options)
    }

    fn take(&mut self, option: Given) -> Result<(), String> {
        let Given { name, argument } = option;
        let invalid = |reason: String| format!("invalid value for {name} {}: {reason}", quoted(&argument));
        match name.as_str() {
            "-h" | "--help" => self.help = true,
            "--version" => self.version = true,
            "--test" => self.test = true,
            "-X" => self.overrides.push(argument),
            "-f" | "--filename" => self.files.push(PathBuf::from(argument)),
            "-C" | "--configure" => once(&mut self.configuration, argument, &name)?,
            "--pid-file" => once(&mut self.pid_file, PathBuf::from(argument), &name)?,
            "-t" | "--timeout" => {
                let timeout = real(&argument).map_err(invalid)?;
                if timeout.is_nan() || timeout <= 0.0 {
                    return Err(invalid("a timeout must be more than 0".to_owned()));
                }
                once(&mut self.timeout, timeout, &name)?;
            }
            _ => {
                let address = SocketAddress::parse(&argument, "").map_err(invalid)?;
                once(&mut self.address, listen_address(&address), &name)?;
            }
        }
        Ok(())
    }
}

/// Sets what may be set once, or again to the same.
fn once<T: PartialEq>(slot: &mut Option<T>, value: T, name: &str) -> Result<(), String> {
    if slot.as_ref().is_some_and(|old| *old != value) {
        return Err(format!("conflicting command line option {}", quoted(name)));
    }
    *slot = Some(value);
    Ok(())
}

fn start(program: &str, options: Options) -> Result<ExitCode, Trouble> {
    if options.help {
        say(USAGE_TEXT.replace("%s", program).trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    if options.version {
        say(format!("runzeo of zeolith {}", env!("CARGO_PKG_VERSION")));
        return Ok(ExitCode::SUCCESS);
    }
    let (plan, log_settings) = plan(options)?;
    let is_configured = log_settings.is_some();
    // The log has a thread.
    descriptors::make_room(plan.server.connections_max);
    let log = EventLog::install(log_settings.unwrap_or_else(LogSettings::default_stderr))
        .map_err(|error| Trouble::Usage(format!("can't open the event log: {error}")))?;
    let ready = |_: &[String]| {
        if plan.test {
            // The log has a thread of its own; its lines come first.
            log.flush();
            say("testing exit immediately");
        }
    };
    match service::run(&plan, Some(&log).filter(|_| is_configured), ready) {
        Ok(End::Stopped) => Ok(ExitCode::SUCCESS),
        Ok(End::Restart) => Ok(ExitCode::from(FAILED)),
        Err(failure) => {
            if is_configured {
                tracing::error!(target: "ZEO.runzeo", "({}) {failure}", std::process::id());
            }
            drop(log);
            Err(match failure {
                Failure::AddressInUse(_) | Failure::NotASocket(_) => Trouble::Usage(failure.to_string()),
                Failure::Storage(_) | Failure::Start(_) | Failure::System(..) => {
                    Trouble::Failure(failure.to_string())
                }
            })
        }
    }
}

/// Puts the command line over the configuration file, if there is one.
fn plan(options: Options) -> Result<(Plan, Option<LogSettings>), Trouble> {
    let usage = |message: &str| Trouble::Usage(message.to_owned());
    let file = match &options.configuration {
        Some(location) => {
            let loaded = settings::load(location, &options.overrides);
            Some(loaded.map_err(|error| Trouble::Usage(error.to_string()))?)
        }
        None if options.overrides.is_empty() => None,
        None => {
            return Err(usage("configuration overrides (-X) cannot be used without a configuration file"));
        }
    };
    let protocol = std::env::var("ZEO_SERVER_PROTOCOL").unwrap_or_default();
    if !["", "5"].contains(&protocol.as_str()) {
        let message =
            format!("ZEO_SERVER_PROTOCOL is {}: this server speaks protocol 5 only", quoted(&protocol));
        return Err(Trouble::Usage(message));
    }
    let mut plan = Plan {
        address: Address::Tcp { host: String::new(), port: 0 },
        server: zeolith_server::Settings { msgpack: msgpack_from_environment(), ..Default::default() },
        storages: Vec::new(),
        resolver: None,
        pid_file: None,
        test: options.test,
    };
    let mut event_log = None;
    let has_address = file.is_some() || options.address.is_some();
    if let Some(ServerSettings { address, server, resolver, pid_file, storages, event_log: log }) = file {
        (plan.address, plan.server, plan.pid_file, plan.storages) = (address, server, pid_file, storages);
        plan.resolver = resolver;
        event_log = log;
    } else {
        plan.resolver = resolver_from_environment();
    }
    if let Some(address) = options.address {
        plan.address = address;
    }
    if !options.files.is_empty() {
        plan.storages = options.files.into_iter().enumerate().map(numbered).collect();
    }
    if let Some(timeout) = options.timeout {
        plan.server.transaction_timeout = Some(seconds(timeout));
    }
    plan.pid_file = options.pid_file.or(plan.pid_file).or_else(pid_file_of_instance);
    if !has_address {
        return Err(usage("no server address specified; use -a or -C"));
    }
    if plan.storages.is_empty() {
        return Err(usage("no storages specified; use -f or -C"));
    }
    Ok((plan, event_log))
}

/// The storage for the n-th `-f`.
fn numbered((at, path): (usize, PathBuf)) -> StorageSettings {
    StorageSettings { name: (at + 1).to_string(), kind: StorageKind::File(FileSettings::new(path)) }
}

fn pid_file_of_instance() -> Option<PathBuf> {
    let home = std::env::var_os("INSTANCE_HOME").filter(|home| !home.is_empty())?;
    Some(PathBuf::from(home).join("var").join("ZEO.pid"))
}

const KNOWN: [Known; 9] = [
    Known { short: Some('h'), long: Some("help"), takes_argument: false },
    Known { short: None, long: Some("version"), takes_argument: false },
    Known { short: Some('C'), long: Some("configure"), takes_argument: true },
    Known { short: Some('X'), long: None, takes_argument: true },
    Known { short: None, long: Some("test"), takes_argument: false },
    Known { short: Some('a'), long: Some("address"), takes_argument: true },
    Known { short: Some('f'), long: Some("filename"), takes_argument: true },
    Known { short: Some('t'), long: Some("timeout"), takes_argument: true },
    Known { short: None, long: Some("pid-file"), takes_argument: true },
];

const USAGE_TEXT: &str = "\
Start the ZEO storage server.

Usage: %s [-C URL] [-a ADDRESS] [-f FILENAME] [-h]

Options:
-C/--configure URL -- configuration file: a path or a file: URL
-a/--address ADDRESS -- where to listen: PORT, HOST:PORT, [IPV6]:PORT, or the PATH of
                        a Unix socket (a PATH must contain at least one \"/\")
-f/--filename FILENAME -- serve this FileStorage; may be repeated: the storages are
                          then called 1, 2, ...
-t/--timeout TIMEOUT -- transaction timeout in seconds (default no timeout)
--pid-file PATH -- file to write this process's pid to; default
                   $(INSTANCE_HOME)/var/ZEO.pid if INSTANCE_HOME is set
-X SECTION/KEY=VALUE -- use this value instead of the configuration file's
--test -- start, say so, and stop
--version -- print the version and exit
-h/--help -- print this usage message and exit

Unless -C is specified, -a and -f are required.
";
const USAGE: u8 = 2;
const FAILED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Options, String> {
        Options::read(arguments.iter().map(OsString::from).collect()).map_err(|trouble| match trouble {
            Trouble::Usage(message) | Trouble::Failure(message) => message,
        })
    }

    #[test]
    fn options_may_be_repeated_if_they_agree() {
        let options = read(&["-t", "3", "--timeout=3.0", "-f", "a", "-f", "b"]).unwrap();
        assert_eq!(options.timeout, Some(3.0));
        assert_eq!(options.files, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(read(&["-t", "3", "-t", "4"]).unwrap_err(), "conflicting command line option '-t'");
    }

    #[test]
    fn wrong_values_are_told_in_the_words_of_the_reference() {
        let message = "invalid value for -t 'abc': could not convert string to float: 'abc'";
        assert_eq!(read(&["-t", "abc"]).unwrap_err(), message);
        let message = "invalid value for -a 'a b': not a valid host name: 'a b'";
        assert_eq!(read(&["-a", "a b"]).unwrap_err(), message);
        assert_eq!(read(&["x"]).unwrap_err(), "positional arguments are not supported");
    }
}
