//! Runs a command in a directory of its own and listens to what it says.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// A directory with a command to run in it.
pub(crate) struct Site {
    folder: TempDir,
}

/// A command that is running. It is killed if the test ends before it does.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    /// Everything said so far, on both streams, in the order in which it arrived.
    said: Vec<String>,
    pub(crate) address: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A site whose `zeo.conf` is this.
    pub(crate) fn with(configuration: &str) -> Self {
        let site = Self::new();
        site.write("zeo.conf", configuration);
        site
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path().join(name).exists()
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        for name in ["ZEO_MSGPACK", "ZEO_SERVER_PROTOCOL", "INSTANCE_HOME"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs `runzeo` to its end.
    pub(crate) fn runzeo(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(env!("CARGO_BIN_EXE_runzeo"), arguments).output().unwrap())
    }

    /// Runs `zeolith` to its end.
    pub(crate) fn zeolith(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(env!("CARGO_BIN_EXE_zeolith"), arguments).output().unwrap())
    }

    /// Runs `zeopack` to its end.
    pub(crate) fn zeopack(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(env!("CARGO_BIN_EXE_zeopack"), arguments).output().unwrap())
    }

    /// Starts `runzeo` and waits until it listens.
    pub(crate) fn start_runzeo(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(env!("CARGO_BIN_EXE_runzeo"), arguments))
    }

    /// Starts `runzeo` with this in its environment and waits until it listens.
    pub(crate) fn start_runzeo_with(&self, arguments: &[&str], name: &str, value: &str) -> Running {
        let mut command = self.command(env!("CARGO_BIN_EXE_runzeo"), arguments);
        command.env(name, value);
        Running::start(command)
    }

    /// Starts `zeolith` and waits until it listens.
    pub(crate) fn start_zeolith(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(env!("CARGO_BIN_EXE_zeolith"), arguments))
    }
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        for stream in [
            Box::new(child.stdout.take().unwrap()) as Box<dyn std::io::Read + Send>,
            Box::new(child.stderr.take().unwrap()),
        ] {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let mut running = Self { child, lines, said: Vec::new(), address: String::new() };
        let line = running.wait_for("listening on ");
        running.address = line.split("listening on ").nth(1).unwrap().to_owned();
        running
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line that contains the text, said already or still to come.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let mut at = 0;
        loop {
            if at == self.said.len() {
                let Ok(line) = self.lines.recv_timeout(Duration::from_secs(60)) else {
                    panic!("never said {text:?}, but:\n{}", self.said.join("\n"));
                };
                self.said.push(line);
            }
            if self.said[at].contains(text) {
                return self.said[at].clone();
            }
            at += 1;
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The exit code, and everything said.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(60)) {
            self.said.push(line);
        }
        (self.child.wait().unwrap().code(), self.said.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
