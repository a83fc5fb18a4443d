//! One Python child: how it is started, asked, and ended.
//!
//! Its standard input is a socket for questions and answers, which the program takes for itself before any code
//! of the site runs; its output streams are another socket, read by a thread of ours. It has a process group of its own,
//! so that Ctrl-C does not reach it, and so that its own children end with it.

use crate::{
    Failure, Settings,
    channel::Channel,
    message::{self, ANSWER_SIZE_MAX, Answer, Request},
    output,
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::{
    io::{self, ErrorKind, Write},
    net::Shutdown,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, ExitStatus},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A child that has greeted.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    channel: Channel,
    output: UnixStream,
    reader: Option<JoinHandle<()>>,
    /// Its number, and that of its group, until the system may give it to others.
    pid: Option<Pid>,
}

impl Process {
    /// Starts a child and waits for its greeting.
    pub(crate) fn start(settings: &Settings, until: Instant) -> Result<Self, Failure> {
        let python = || settings.python.to_string_lossy().into_owned();
        let mut process =
            Self::spawn(settings).map_err(|source| Failure::Start { python: python(), source })?;
        // Its own alarm is for when nobody is left to end it.
        let alarm = settings.timeout.saturating_add(ALARM_GRACE);
        let greeted = process.exchange(&message::greeting(settings.memory_max, alarm), TEXT_MAX, until);
        let greeting = greeted.map_err(|error| process.failure(error, settings.timeout))?;
        match message::read_greeting(&greeting)? {
            Ok(version) => {
                let pid = process.child.id();
                let python = settings.python.display();
                tracing::info!(target: crate::LOGGER, "resolver process {pid} is ready: {python}, {version}");
                Ok(process)
            }
            Err(why) => Err(Failure::NotReady { python: python(), why }),
        }
    }

    fn spawn(settings: &Settings) -> io::Result<Self> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let (output, said) = UnixStream::pair()?;
        // The program waits in the socket: as an argument it would fill the list of processes.
        ours.write_all(PROGRAM.as_bytes())?;
        let size = PROGRAM.len();
        let load = format!("import os; exec(compile(os.read(0, {size}), 'zeolith-resolver', 'exec'))");
        let child = Command::new(&settings.python)
            // No other options and no arguments: the interpreters that buildout makes know no more.
            .args(["-c", &load])
            .env("PYTHONUNBUFFERED", "1")
            .stdin(OwnedFd::from(theirs))
            .stdout(OwnedFd::from(said.try_clone()?))
            .stderr(OwnedFd::from(said))
            .process_group(0)
            .spawn()?;
        let pid = child.id();
        let group = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let mut process = Self { child, channel: Channel::new(ours), output, reader: None, pid: group };
        let stream = process.output.try_clone()?;
        let reader = thread::Builder::new().name(format!("resolver-{pid}"));
        process.reader = Some(reader.spawn(move || output::pass_on(stream, pid))?);
        Ok(process)
    }

    /// Whether it has not ended behind our back.
    pub(crate) fn is_alive(&self) -> bool {
        // Left unreaped, so that its number stays its own.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.pid.is_some_and(|pid| matches!(waitid(WaitId::Pid(pid), options), Ok(None)))
    }

    /// What it makes of a conflict. After a failure it is of no use any more.
    pub(crate) fn ask(&mut self, request: &Request, timeout: Duration) -> Result<Answer, Failure> {
        let answer = self.exchange(&request.content, ANSWER_SIZE_MAX, Instant::now() + timeout);
        request.read_answer(answer.map_err(|error| self.failure(error, timeout))?)
    }

    fn exchange(&mut self, content: &[u8], size_max: usize, until: Instant) -> io::Result<Vec<u8>> {
        self.channel.write(content, until)?;
        self.channel.read(size_max, until)
    }

    fn failure(&mut self, error: io::Error, timeout: Duration) -> Failure {
        match error.kind() {
            ErrorKind::TimedOut => Failure::Hung(timeout),
            ErrorKind::InvalidData => Failure::Nonsense("it announces more than an answer can be"),
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                self.end_seen().map_or_else(|| Failure::Nonsense("it closed its end"), Failure::Ended)
            }
            _ => Failure::Io(error),
        }
    }

    /// How it ended, if it does so in a moment: its sockets are closed shortly before it is gone.
    fn end_seen(&mut self) -> Option<ExitStatus> {
        let until = Instant::now() + END_GRACE;
        while self.is_alive() {
            if Instant::now() > until {
                return None;
            }
            thread::sleep(END_POLL);
        }
        self.end().ok()
    }

    /// Ends it, whatever it is doing, and the children that it has.
    fn end(&mut self) -> io::Result<ExitStatus> {
        if let Some(group) = self.pid.take() {
            // It may be gone with all of its group.
            let _ = kill_process_group(group, Signal::KILL);
        }
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.end();
        // What it said last is still read. A child that left its group can hold the other end: it is not waited for.
        let _ = self.output.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// What a child runs.
const PROGRAM: &str = include_str!("resolver.py");
/// A greeting is a short text.
const TEXT_MAX: usize = 64 << 10;
/// How much later than the server a child ends itself.
const ALARM_GRACE: Duration = Duration::from_secs(10);
const END_GRACE: Duration = Duration::from_millis(500);
const END_POLL: Duration = Duration::from_millis(2);
