//! Runs the simulation: one seed again, or new seeds for some time.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use zeolith_sim::{Counts, Options, Sabotage, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match Wanted::parse(&arguments) {
        Ok(wanted) => wanted.run(&mut io::stdout().lock()),
        Err(why) => {
            // Without a terminal there is nobody to tell.
            let _ = writeln!(io::stderr(), "{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

/// What the command line asks for.
struct Wanted {
    first_seed: u64,
    seeds: u64,
    seconds: Option<u64>,
    options: Options,
}

impl Wanted {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut wanted = Self { first_seed: 0, seeds: 1, seconds: None, options: Options::default() };
        let mut has_seed = false;
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--seed" => {
                    wanted.first_seed = number(name, value()?)?;
                    has_seed = true;
                }
                "--seeds" => wanted.seeds = number(name, value()?)?,
                "--seconds" => wanted.seconds = Some(number(name, value()?)?),
                "--events" => wanted.options.events = number(name, value()?)?,
                "--sabotage" => wanted.options.sabotage = Some(sabotage(value()?)?),
                other => return Err(format!("what is {other}?")),
            }
        }
        if wanted.seconds.is_some() && !has_seed {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            wanted.first_seed = u64::from(now.subsec_nanos()) << 32 | now.as_secs() & 0xffff_ffff;
        }
        Ok(wanted)
    }

    /// Whether all went well.
    fn run(&self, out: &mut impl Write) -> io::Result<bool> {
        let until = self.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut total = Counts::default();
        let mut done = 0;
        while until.map_or(done < self.seeds, |until| Instant::now() < until) {
            let seed = self.first_seed.wrapping_add(done);
            match run(seed, &self.options) {
                Ok(summary) => {
                    total = total.plus(&summary.counts);
                    if self.seeds == 1 && until.is_none() {
                        writeln!(out, "seed {seed}: trace {:016x}", summary.trace_hash)?;
                    }
                }
                Err(failure) => {
                    write!(out, "{failure}")?;
                    return Ok(false);
                }
            }
            done += 1;
        }
        writeln!(out, "{done} seeds from {}: {total:?}", self.first_seed)?;
        Ok(true)
    }
}

fn number(name: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{name} takes a number, not {text:?}"))
}

fn sabotage(text: &str) -> Result<Sabotage, String> {
    let found = Sabotage::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, sabotage)| *sabotage).ok_or_else(|| format!("there is no sabotage {text:?}"))
}

const USAGE: &str = "usage: zeolith-sim [--seed N] [--seeds N | --seconds N] [--events N] [--sabotage NAME]
NAME: reveal-before-notice, reply-before-sync, end-left-open, lock-kept-after-timeout,
      torn-tail-accepted, reply-before-watermark";
