//! `zeolith pack`: lets a server pack, or packs a database that no server has open.
//!
//! Ends with 0 if all went well, also if there was nothing to do; 1 if the pack failed; 2 if the options are
//! wrong or no server answers.

mod offline;
mod online;
mod show;

use crate::{output::complain, pack_time::pack_time};
use std::{path::PathBuf, process::ExitCode};

/// The options of `zeolith pack`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The server: PORT, HOST:PORT, [IPV6]:PORT, or the path of a Unix socket
    #[arg(required_unless_present_any = ["file", "configure"])]
    address: Option<String>,
    /// Pack this file itself; no server may have it open
    #[arg(short, long, value_name = "PATH", conflicts_with_all = ["address", "configure"])]
    file: Option<PathBuf>,
    /// Pack a storage of this zeo.conf itself; no server may have it open
    #[arg(short = 'C', long, value_name = "FILE", conflicts_with = "address")]
    configure: Option<String>,
    /// The name of the storage
    #[arg(short = 'S', long, value_name = "NAME", default_value = "1", conflicts_with = "file")]
    storage: String,
    /// Keep what was current so many days ago, and everything since
    #[arg(short, long, default_value_t = 0.0, value_parser = days)]
    days: f64,
    /// The time of day to pack to, in local time, instead of now
    #[arg(short, long, value_name = "HH[:MM[:SS]]")]
    time: Option<String>,
    /// Only say what the pack would do
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// End the pack that is under way, instead of starting one
    #[arg(long, requires = "address", conflicts_with_all = ["dry_run", "no_wait", "days", "time"])]
    cancel: bool,
    /// Do not wait for the end of the pack
    #[arg(long, requires = "address", conflicts_with = "dry_run")]
    no_wait: bool,
    /// The directory of the file's blobs; without it the blobs of what goes stay
    #[arg(long, value_name = "PATH", requires = "file")]
    blob_dir: Option<PathBuf>,
    /// Keep objects that cannot be reached
    #[arg(long, requires = "file")]
    no_gc: bool,
    /// Do not keep the old file as .old
    #[arg(long, requires = "file")]
    no_old: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// How long to wait for the server to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
}

fn days(text: &str) -> Result<f64, String> {
    let days = zeolith_config::real(text)?;
    if (0.0..=DAYS_MAX).contains(&days) { Ok(days) } else { Err("it must be 0 or more".to_owned()) }
}

/// Why a pack did not come about.
enum Trouble {
    /// Nobody has begun to pack.
    NotStarted(String),
    Failed(String),
}

/// Packs.
pub(crate) fn run(options: &Options) -> ExitCode {
    let time = pack_time(options.time.as_deref(), options.days).map_err(Trouble::NotStarted);
    let done = time.and_then(|time| match &options.address {
        Some(address) => online::run(address, time, options),
        None => offline::run(time, options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::Failed(message)) => {
            complain(format!("Error: {message}"));
            ExitCode::from(1)
        }
        Err(Trouble::NotStarted(message)) => {
            complain(format!("Error: {message}"));
            ExitCode::from(2)
        }
    }
}

/// A thousand years, and a time before 1970 is as good as 1970.
const DAYS_MAX: f64 = 365_000.0;
