//! `zeolith status`: asks a server how it is (`ruok`) and shows the answer.
//!
//! Ends with 0 if the server answers, 1 if it answers that it serves nothing, 2 if it does not answer.

use crate::{
    output::{complain, say},
    socket::Socket,
};
use serde_json::{Map, Value};
use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

/// The options of `zeolith status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The server: PORT, HOST:PORT, [IPV6]:PORT, or the path of a Unix socket
    address: String,
    /// Print the answer as it is
    #[arg(long)]
    json: bool,
    /// How long to wait for the server
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
}

/// Asks and shows.
pub(crate) fn run(options: &Options) -> ExitCode {
    let timeout = Duration::from_secs(options.timeout.into());
    let answer = match ask(&options.address, timeout) {
        Ok(answer) => answer,
        Err(message) => {
            complain(format!("Error: {message}"));
            return ExitCode::from(2);
        }
    };
    if options.json {
        say(Value::Object(answer.clone()).to_string());
    } else if !answer.is_empty() {
        say(table(&options.address, &answer));
    }
    if answer.is_empty() {
        complain("No storages");
        return ExitCode::from(1);
    }
    ExitCode::SUCCESS
}

fn ask(address: &str, timeout: Duration) -> Result<Map<String, Value>, String> {
    let mut socket = Socket::connect_to(address, timeout)?;
    let mut talk = || -> io::Result<Vec<u8>> {
        socket.write_all(b"\0\0\0\x04ruok")?;
        // The server says first what it speaks, to everybody.
        socket.read_frame(ANSWER_SIZE_MAX)?;
        socket.read_frame(ANSWER_SIZE_MAX)
    };
    let answer = talk().map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it does not answer".to_owned(),
            io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
            _ => error.to_string(),
        };
        format!("{address} is no ZEO server, or not well: {what}")
    })?;
    match serde_json::from_slice(&answer) {
        Ok(Value::Object(answer)) => Ok(answer),
        _ => Err(format!("{address} is no ZEO server: its answer is not a JSON object")),
    }
}

/// The answer for people: a line for each value, with what it means in plain words.
fn table(address: &str, answer: &Map<String, Value>) -> String {
    let mut lines = vec![format!("{address} is a ZEO server.")];
    for (name, status) in answer {
        let of = |key: &str| match status.get(key) {
            None | Some(Value::Null) => "-".to_owned(),
            Some(Value::String(text)) => text.chars().filter(|c| !c.is_control()).collect(),
            Some(other) => other.to_string(),
        };
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        let last = of("last-transaction");
        let last =
            if last.bytes().all(|b| b == b'0') { "none: the storage is empty".to_owned() } else { last };
        let timeout = match status.get("timeout-thread-is-alive") {
            Some(Value::Bool(true)) => "set",
            Some(Value::Bool(false)) => "set, but nobody watches it",
            _ => "none",
        };
        lines.push(format!("\nstorage '{name}'"));
        let rows = [
            ("clients", of("connections")),
            ("loads", of("loads")),
            ("stores", of("stores")),
            ("commits", of("commits")),
            ("aborts", of("aborts")),
            ("conflicts", format!("{}, {} resolved", of("conflicts"), of("conflicts_resolved"))),
            ("transactions", format!("{} under way, {} waiting", of("active_txns"), of("waiting"))),
            ("locked since", of("lock_time")),
            ("timeout", timeout.to_owned()),
            ("last transaction", last),
            ("running since", of("start")),
        ];
        lines.extend(rows.iter().map(|(label, value)| format!("  {label:<18}{value}")));
        if let Some(Value::Object(classes)) = status.get("conflicts_by_class") {
            lines.extend(
                classes.iter().map(|(class, counts)| format!("  {:<18}{}", "", conflicts(class, counts))),
            );
        }
        if let Some(Value::Object(limits)) = status.get("limits") {
            let printable = |key: &str| key.chars().filter(|c| !c.is_control()).collect::<String>();
            let hits: Vec<_> =
                limits.iter().map(|(key, hits)| format!("{} {hits}", printable(key))).collect();
            lines.push(format!("  {:<18}{}", "limits reached", hits.join(", ")));
        }
        if let Some(pack) = status.get("pack") {
            lines.push(format!("  {:<18}{}", "pack", progress(pack)));
        }
    }
    lines.join("\n")
}

/// How often a class was in conflict, and what became of it.
fn conflicts(class: &str, counts: &Value) -> String {
    let ends = [
        ("native", "resolved by the server"),
        ("process", "resolved by the resolver process"),
        ("client", "given to clients"),
        ("refused", "refused"),
    ];
    let ends = ends.iter().filter_map(|(key, words)| Some(format!("{} {words}", counts.get(key)?.as_u64()?)));
    let class: String = class.chars().filter(|c| !c.is_control()).collect();
    format!("{class}: {}", ends.collect::<Vec<_>>().join(", "))
}

/// How far a pack is.
fn progress(pack: &Value) -> String {
    let phase = pack.get("phase").and_then(Value::as_str).unwrap_or("under way");
    let phase: String = phase.chars().filter(|c| !c.is_control()).collect();
    let number = |key: &str| pack.get(key).and_then(Value::as_u64);
    let percent = number("percent").map_or_else(String::new, |percent| format!(", {percent} % of all"));
    let left =
        number("seconds-left").map_or_else(String::new, |seconds| format!(", about {seconds} seconds left"));
    format!("{phase}{percent}{left}")
}

const ANSWER_SIZE_MAX: u32 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read, net::TcpListener, thread};

    /// A server that sends these bytes to whoever connects, once.
    fn server(answer: &'static [u8]) -> (String, thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 8];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(answer).unwrap();
            question.to_vec()
        });
        (address, thread)
    }

    fn asked(answer: &'static [u8]) -> Result<Map<String, Value>, String> {
        let (address, thread) = server(answer);
        let result = ask(&address, Duration::from_secs(5));
        assert_eq!(thread.join().unwrap(), b"\0\0\0\x04ruok");
        result.map_err(|message| message.replace(&address, "HERE"))
    }

    #[test]
    fn the_answer_follows_what_the_server_speaks() {
        let answer = asked(b"\0\0\0\x02Z5\0\0\0\x15{\"1\": {\"commits\": 3}}").unwrap();
        let text = table("HERE", &answer);
        assert!(text.starts_with("HERE is a ZEO server.\n\nstorage '1'\n"), "{text}");
        assert!(text.contains("  commits           3\n"), "{text}");
    }

    #[test]
    fn conflicts_are_told_by_class() {
        let counts = serde_json::json!({"app.Counter": {"process": 3, "refused": 1}});
        let answer = serde_json::json!({"1": {"conflicts_by_class": counts}});
        let text = table("HERE", answer.as_object().unwrap());
        let line = "app.Counter: 3 resolved by the resolver process, 1 refused";
        assert!(text.ends_with(&format!("\n                    {line}")), "{text}");
    }

    #[test]
    fn a_pack_that_is_under_way_has_a_line() {
        let pack = |left: Value| {
            let pack =
                serde_json::json!({"phase": "copying what is kept", "percent": 70, "seconds-left": left});
            let answer = serde_json::json!({"1": {"pack": pack}});
            table("here", answer.as_object().unwrap())
        };
        let said = "\n  pack              copying what is kept, 70 % of all";
        assert!(pack(12.into()).ends_with(&format!("{said}, about 12 seconds left")), "{}", pack(12.into()));
        assert!(pack(Value::Null).ends_with(said), "{}", pack(Value::Null));
    }

    #[test]
    fn limits_that_took_effect_are_listed() {
        let answer = serde_json::json!({"1": {"limits": {"connections-max": 3, "iterators-max": 1}}});
        let text = table("HERE", answer.as_object().unwrap());
        assert!(text.ends_with("\n  limits reached    connections-max 3, iterators-max 1"), "{text}");
    }

    #[test]
    fn what_is_no_server_is_called_so() {
        let message = asked(b"\0\0\0\x02Z5").unwrap_err();
        assert_eq!(message, "HERE is no ZEO server, or not well: it closed the connection");
        let message = asked(b"HTTP/1.1 400 Bad Request\r\n").unwrap_err();
        assert!(message.contains("it announces an answer of 1213486160 bytes"), "{message}");
        let message = asked(b"\0\0\0\x02Z5\0\0\0\x02[]").unwrap_err();
        assert_eq!(message, "HERE is no ZEO server: its answer is not a JSON object");
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let message = ask(&address, Duration::from_secs(5)).unwrap_err();
        assert!(message.starts_with(&format!("can't connect to {address}: ")), "{message}");
        let message = ask("localhost", Duration::from_secs(5)).unwrap_err();
        assert_eq!(message, "can't connect to localhost: the port is missing");
    }
}
