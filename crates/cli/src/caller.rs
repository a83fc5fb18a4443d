//! A small ZEO client: says hello, registers, calls methods and waits for their replies.
//!
//! What the server tells without being asked is passed over: whoever needs that needs a real client.

use crate::socket::Socket;
use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};
use zeolith_types::Value;
use zeolith_wire::{Encoding, FrameReader, answer, decode_message, encode_call, parse_announcement};

/// A registered connection to one storage of a server.
pub(crate) struct Caller {
    socket: Socket,
    encoding: Encoding,
    incoming: FrameReader,
    calls: i128,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The server answered with an exception.
    #[error("{class}: {text}")]
    Refused {
        /// The name of the exception.
        class: String,
        /// What it says.
        text: String,
    },
    /// The server closed the connection, as ZEO's own does when it does not know a method.
    #[error("it closed the connection")]
    Closed,
    /// The connection is of no use any more.
    #[error("{0}")]
    Lost(String),
}

type Result<T> = std::result::Result<T, CallError>;

/// The reply to the call of this number.
pub(crate) type Reply = (i128, Result<Value>);

impl Caller {
    /// Says hello and registers for reading.
    pub(crate) fn register(mut socket: Socket, storage: &str, timeout: Duration) -> Result<Self> {
        let announced = socket.read_frame(HELLO_SIZE_MAX)?;
        let encoding = parse_announcement(&announced)
            .map_err(|error| CallError::Lost(format!("it is no ZEO server, or an old one: {error}")))?;
        socket.write_all(answer(encoding))?;
        let mut caller = Self { socket, encoding, incoming: FrameReader::default(), calls: 0 };
        let arguments = [Value::Str(storage.to_owned()), Value::Bool(true)];
        caller.call("register", &arguments, timeout)?;
        Ok(caller)
    }

    /// Calls a method and waits for its reply.
    pub(crate) fn call(&mut self, method: &str, arguments: &[Value], timeout: Duration) -> Result<Value> {
        let number = self.send(method, arguments)?;
        let deadline = Instant::now() + timeout;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.reply(rest)? {
                Some((of, result)) if of == number => return result,
                Some(_) => {}
                None => return Err(CallError::Lost("it does not answer".to_owned())),
            }
        }
    }

    /// Calls a method; the number is that of the reply.
    pub(crate) fn send(&mut self, method: &str, arguments: &[Value]) -> Result<i128> {
        self.calls += 1;
        let mut out = Vec::new();
        let id = Value::Int(self.calls);
        encode_call(self.encoding, &id, false, method, arguments, &mut out).map_err(unsaid)?;
        self.socket.write_all(&out)?;
        Ok(self.calls)
    }

    /// The next reply to any call; `None` if there is none in time.
    pub(crate) fn reply(&mut self, timeout: Duration) -> Result<Option<Reply>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(frame) = self.incoming.next_frame().map_err(unsaid)? {
                let message = decode_message(self.encoding, &frame).map_err(unsaid)?;
                if let Some(reply) = as_reply(&message) {
                    return Ok(Some(reply));
                }
                continue;
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            self.socket.set_timeout(rest.max(WAIT_MIN))?;
            let mut buffer = [0; 4096];
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(len) => self.incoming.push(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) && rest <= WAIT_MIN => return Ok(None),
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What a message says if it is a reply.
fn as_reply(message: &Value) -> Option<Reply> {
    let [Value::Int(number), flag, Value::Str(name), content] = message.as_sequence()? else { return None };
    if name != ".reply" {
        return None;
    }
    match (flag, content.as_sequence()) {
        (Value::Int(2), Some([Value::Str(class), payload])) => {
            Some((*number, Err(CallError::Refused { class: class.clone(), text: text(payload) })))
        }
        _ => Some((*number, Ok(content.clone()))),
    }
}

/// What an exception says: its arguments, or the attribute that is its message.
fn text(payload: &Value) -> String {
    let shown = |value: &Value| match value {
        Value::Str(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        other => format!("a {}", other.type_name()),
    };
    match payload {
        Value::Dict(attributes) => {
            let named =
                |name: &str| attributes.iter().find(|(key, _)| matches!(key, Value::Str(key) if key == name));
            let message = ["message", "_reason", "args"].into_iter().find_map(named);
            message.map_or_else(String::new, |(_, value)| text(value))
        }
        Value::Tuple(items) | Value::List(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => shown(other),
    }
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Self::Lost("it does not answer".to_owned())
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Lost(error.to_string()),
        }
    }
}

fn unsaid(error: impl std::fmt::Display) -> CallError {
    CallError::Lost(error.to_string())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A hello has two bytes, and more if a version ever has more digits.
const HELLO_SIZE_MAX: u32 = 64;
/// The operating system takes no timeout of nothing.
const WAIT_MIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn message(flag: i128, name: &str, content: Value) -> Value {
        Value::Tuple(vec![Value::Int(7), Value::Int(flag), Value::Str(name.to_owned()), content])
    }

    fn error(payload: Value) -> String {
        let content = Value::Tuple(vec![Value::Str("a.B".to_owned()), payload]);
        match as_reply(&message(2, ".reply", content)) {
            Some((7, Err(error))) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_exception_is_told_by_its_class_and_what_it_says() {
        let text = |text: &str| Value::Str(text.to_owned());
        assert_eq!(error(Value::Tuple(vec![text("Already packing")])), "a.B: Already packing");
        assert_eq!(error(Value::Tuple(vec![Value::Int(28), text("full")])), "a.B: 28, full");
        let attributes = vec![(text("_oid"), Value::None), (text("_reason"), text("why"))];
        assert_eq!(error(Value::Dict(attributes)), "a.B: why");
    }

    #[test]
    fn what_is_no_reply_is_passed_over() {
        assert!(as_reply(&message(0, "info", Value::Tuple(vec![]))).is_none());
        assert!(matches!(as_reply(&message(0, ".reply", Value::None)), Some((7, Ok(Value::None)))));
    }
}
