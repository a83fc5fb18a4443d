//! The `zeopack` command: the reference's options, texts and exit codes, for one or more servers.
//!
//! Wrong options end with 2; everything else that goes wrong with 1.

use crate::{
    caller::Caller,
    getopt::{Given, Known, getopt},
    output::{complain, say},
    pack_time::pack_time,
    socket::Socket,
};
use std::{ffi::OsString, process::ExitCode, thread, time::Duration};
use zeolith_config::{InetAddress, SocketAddress, quoted};
use zeolith_types::Value;

/// Runs the command and gives its exit code.
pub fn main(program: &str, arguments: Vec<OsString>) -> ExitCode {
    if arguments.is_empty() {
        say(USAGE_TEXT.replace("%s", program).trim_end());
        return ExitCode::SUCCESS;
    }
    let read = Options::read(arguments).and_then(|options| Ok((options.time()?, options.servers()?)));
    let packed =
        read.and_then(|(time, servers)| pack_all(&servers, time, CONNECTS_MAX).map_err(Trouble::Failure));
    match packed {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::Usage(message)) => {
            let usage = USAGE_TEXT.replace("%s", program);
            let usage = usage.split("\n\n").next().unwrap_or_default();
            complain(format!("{usage}\n\n{program}: error: {message}"));
            ExitCode::from(2)
        }
        Err(Trouble::Failure(message)) => {
            complain(format!("Error:\n{message}"));
            ExitCode::from(1)
        }
    }
}

/// What ends the command.
#[derive(Debug, PartialEq)]
enum Trouble {
    Usage(String),
    Failure(String),
}

/// A storage of a server.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    address: SocketAddress,
    storage: String,
}

impl Target {
    /// The address as Python shows it.
    fn shown(&self) -> String {
        match &self.address {
            SocketAddress::Unix(path) => quoted(&path.to_string_lossy()),
            SocketAddress::Inet(inet) => {
                format!("({}, {})", quoted(&inet.host), inet.port.unwrap_or_default())
            }
        }
    }
}

/// What the command line says.
#[derive(Debug, Default)]
struct Options {
    days: i64,
    time: Option<String>,
    unix: Vec<String>,
    old_host: Option<String>,
    old_port: Option<u16>,
    old_unix: Option<String>,
    old_name: Option<String>,
    servers: Vec<String>,
}

impl Options {
    /// Options and servers may come in any order.
    fn read(arguments: Vec<OsString>) -> Result<Self, Trouble> {
        let mut options = Self::default();
        let mut rest = arguments;
        while !rest.is_empty() {
            let (given, others) = getopt(rest, &KNOWN).map_err(Trouble::Usage)?;
            for option in given {
                options.take(option).map_err(Trouble::Usage)?;
            }
            let mut others = others.into_iter();
            options.servers.extend(others.next());
            rest = others.map(OsString::from).collect();
        }
        Ok(options)
    }

    fn take(&mut self, Given { name, argument }: Given) -> Result<(), String> {
        let integer = |text: &str| format!("option {name}: invalid integer value: {}", quoted(text));
        match name.as_str() {
            "-d" | "--days" => self.days = argument.trim().parse().map_err(|_| integer(&argument))?,
            "-p" => self.old_port = Some(argument.trim().parse().map_err(|_| integer(&argument))?),
            "-t" | "--time" => self.time = Some(argument),
            "-u" | "--unix" => self.unix.push(argument),
            "-h" => self.old_host = Some(argument),
            "-S" => self.old_name = Some(argument),
            _ => self.old_unix = Some(argument),
        }
        Ok(())
    }

    fn time(&self) -> Result<f64, Trouble> {
        let time = self.time.as_deref().filter(|time| !time.is_empty());
        pack_time(time, self.days as f64).map_err(Trouble::Failure)
    }

    /// All that is to be packed, in the reference's order.
    fn servers(&self) -> Result<Vec<Target>, Trouble> {
        let failure = |message: String| Err(Trouble::Failure(message));
        let mut targets = Vec::new();
        let old_name = || self.old_name.clone().unwrap_or_else(|| "1".to_owned());
        match (&self.old_host, self.old_port) {
            (Some(_), None) => {
                let message = "If host (-h) is specified then a port (-p) must be specified as well.";
                return failure(message.to_owned());
            }
            (host, Some(port)) => {
                let host = host.clone().unwrap_or_else(own_name);
                targets.push(Target { address: tcp(host, port), storage: old_name() });
            }
            (None, None) => {}
        }
        if let Some(path) = &self.old_unix {
            targets.push(Target { address: SocketAddress::Unix(path.into()), storage: old_name() });
        }
        for server in &self.servers {
            let parts: Vec<&str> = server.split(':').collect();
            let (host, port, name) = match *parts.as_slice() {
                [host, port] => (host, port, "1"),
                [host, port, name] => (host, port, name),
                _ => return failure(format!("Invalid server specification: {}", quoted(server))),
            };
            let Ok(port) = port.trim().parse() else {
                return failure(format!("Invalid port in server specification: {}", quoted(server)));
            };
            targets.push(Target { address: tcp(host.to_owned(), port), storage: name.to_owned() });
        }
        for server in &self.unix {
            let parts: Vec<&str> = server.split(':').collect();
            let (path, name) = match *parts.as_slice() {
                [path] => (path, "1"),
                [path, name] => (path, name),
                _ => return failure(format!("Invalid server specification: {}", quoted(server))),
            };
            targets.push(Target { address: SocketAddress::Unix(path.into()), storage: name.to_owned() });
        }
        if targets.is_empty() { failure("No servers specified.".to_owned()) } else { Ok(targets) }
    }
}

fn tcp(host: String, port: u16) -> SocketAddress {
    SocketAddress::Inet(InetAddress { host, port: Some(port) })
}

/// What this machine is called.
fn own_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Packs one after the other; the first one that fails ends it.
fn pack_all(targets: &[Target], time: f64, connects_max: u32) -> Result<(), String> {
    let mut found = false;
    for target in targets {
        let Some(mut caller) = connect(target, connects_max) else {
            let named = format!("({}, {})", target.shown(), quoted(&target.storage));
            complain(format!("Couldn't connect to: {named}"));
            continue;
        };
        found = true;
        let packed = caller.call("pack", &[Value::Float(time), Value::Bool(true)], NO_END);
        if let Err(error) = packed {
            complain(error.to_string());
            return Err(format!("Error packing storage {} in {}", target.storage, target.shown()));
        }
    }
    if found { Ok(()) } else { Err("Cannot connect to any of the configured ZEO servers.".to_owned()) }
}

/// A server may be about to start.
fn connect(target: &Target, connects_max: u32) -> Option<Caller> {
    for attempt in 0..connects_max {
        if attempt > 0 {
            thread::sleep(CONNECTS_APART);
        }
        let caller = Socket::connect(&target.address, ANSWER_TIMEOUT)
            .ok()
            .and_then(|socket| Caller::register(socket, &target.storage, ANSWER_TIMEOUT).ok());
        if caller.is_some() {
            return caller;
        }
    }
    None
}

const KNOWN: [Known; 7] = [
    Known { short: Some('d'), long: Some("days"), takes_argument: true },
    Known { short: Some('t'), long: Some("time"), takes_argument: true },
    Known { short: Some('u'), long: Some("unix"), takes_argument: true },
    Known { short: Some('h'), long: None, takes_argument: true },
    Known { short: Some('p'), long: None, takes_argument: true },
    Known { short: Some('S'), long: None, takes_argument: true },
    Known { short: Some('U'), long: None, takes_argument: true },
];

const USAGE_TEXT: &str = "\
Usage: %s [options] [servers]

Pack one or more storages hosted by ZEO servers.

The positional arguments specify 0 or more tcp servers to pack, where
each is of the form:

    host:port[:name]

Options:
  -d DAYS, --days=DAYS  Pack objects that are older than this number of days
  -t TIME, --time=TIME  Time of day to pack to of the form: HH[:MM[:SS]].
                        Defaults to current time.
  -u UNIX_SOCKETS, --unix=UNIX_SOCKETS
                        A unix-domain-socket server to connect to, of the
                        form: path[:name]
  -h HOST               Deprecated: Used with the -p and -S options, specified
                        the host to connect to.
  -p PORT               Deprecated: Used with the -h and -S options, specifies
                        the port to connect to.
  -S NAME               Deprecated: Used with the -h and -p, options, or with
                        the -U option specified the storage name to use.
                        Defaults to 1.
  -U UNIX               Deprecated: Used with the -S option, Unix-domain
                        socket to connect to.
";
/// The reference looks once a second for a minute.
const CONNECTS_MAX: u32 = 60;
const CONNECTS_APART: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A pack takes as long as it takes.
const NO_END: Duration = Duration::from_secs(10 * 365 * 86400);

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(arguments: &[&str]) -> Result<Vec<(String, String)>, Trouble> {
        let targets = Options::read(arguments.iter().map(OsString::from).collect())?.servers()?;
        Ok(targets.into_iter().map(|target| (target.shown(), target.storage)).collect())
    }

    fn failure(arguments: &[&str]) -> String {
        match servers(arguments) {
            Err(Trouble::Failure(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn servers_are_packed_in_the_order_of_the_reference() {
        let all =
            ["-u", "a/b:x", "host:1", "-d", "3", "host:2:two", "-U", "old", "-S", "o", "-h", "h", "-p", "9"];
        let expected =
            [("('h', 9)", "o"), ("'old'", "o"), ("('host', 1)", "1"), ("('host', 2)", "two"), ("'a/b'", "x")];
        let expected = expected.map(|(address, name)| (address.to_owned(), name.to_owned()));
        assert_eq!(servers(&all).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_the_reference() {
        assert_eq!(failure(&["-d", "1"]), "No servers specified.");
        assert_eq!(failure(&["localhost"]), "Invalid server specification: 'localhost'");
        assert_eq!(failure(&["h:x"]), "Invalid port in server specification: 'h:x'");
        assert_eq!(failure(&["-u", "a:b:c"]), "Invalid server specification: 'a:b:c'");
        assert!(failure(&["-h", "host"]).starts_with("If host (-h) is specified then a port (-p)"));
        let wrong = Trouble::Usage("option -d: invalid integer value: 'x'".to_owned());
        assert_eq!(servers(&["-d", "x", "h:1"]).unwrap_err(), wrong);
    }

    #[test]
    fn a_server_that_is_not_there_is_an_error_at_the_end() {
        let nobody = Target { address: SocketAddress::Unix("/nowhere/at/all".into()), storage: "1".into() };
        let error = pack_all(&[nobody], 0.0, 1).unwrap_err();
        assert_eq!(error, "Cannot connect to any of the configured ZEO servers.");
    }
}
