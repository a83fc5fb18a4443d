//! Opens a database: takes its lock, finds its end, loads or builds its index, makes durable what is there.

use crate::{
    file::DataFile,
    format::{FIRST_TRANSACTION, MAGIC, MAGIC_PYTHON_2},
    index::Index,
    lock::{self, DatabaseLock},
    report::{Finding, Findings, IndexUse, OpenReport},
    saved::{self, with_suffix},
    scan::{Scan, Scanned, Tail},
    storage::{FileStorage, Parts},
    tail,
    watermark::{self, Mark, Watermark},
};
use std::{
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
    time::Duration,
};
use zeolith_disk::{Access, Disk};
use zeolith_storage::{Resolver, Result, StorageError};
use zeolith_types::{Tid, Timestamp};

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Start with an empty database, whatever is there.
    pub create: bool,
    /// Take no lock and change nothing.
    pub read_only: bool,
    /// Refuse transactions once the file has this many bytes.
    pub quota: Option<u64>,
    /// Show the database as it was before this transaction; only read-only.
    pub stop: Option<Tid>,
    /// A pack drops objects that nothing refers to.
    pub pack_gc: bool,
    /// A pack leaves the file as it was before as `.old`.
    pub pack_keep_old: bool,
    /// How many bytes a pack may read and write in a second; needs a clock.
    pub pack_rate_max: Option<u64>,
    /// Tells the time, for the report; without it nobody knows how long opening took, or that a tid is in the
    /// future.
    pub clock: Option<fn() -> Timestamp>,
    /// Whom to ask about conflicts; without one they stand.
    pub resolver: Option<Arc<dyn Resolver>>,
}

impl FileStorage {
    /// Opens the database at `path`, or makes it. What was found is for the caller to log. After a long scan a
    /// [`checkpoint`](zeolith_storage::Storage::checkpoint) saves the next opening the same.
    ///
    /// # Errors
    /// `Locked` if another process has it, `Corrupt` if it is damaged in the middle or no database of
    /// Python 3, `Format` if the options contradict each other, else `Io`.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, options: Options) -> Result<(Self, OpenReport)> {
        Self::open_with_progress(disk, path, options, &mut |_, _| {})
    }

    /// Like [`Self::open`]; during a long scan `progress` is told now and then how many bytes of how many
    /// are done.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_progress(
        disk: Arc<dyn Disk>,
        path: &Path,
        options: Options,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Self, OpenReport)> {
        let clock = options.clock;
        let begun = clock.map(|clock| clock());
        options.check()?;
        let lock_path = with_suffix(path, ".lock");
        let lock = match options.read_only {
            true => None,
            false => Some(DatabaseLock::take(&*disk, &lock_path)?),
        };
        let opening = Opening { disk: &*disk, path, options: &options };
        let file = opening.file()?;
        let mut findings = Findings::default();
        opening.remove_unfinished_pack(&mut findings)?;
        let mark = opening.mark(&file, lock::was_ours(&*disk, &lock_path), &mut findings)?;
        let (index, loaded) = opening.load(&file, mark, &mut findings, progress)?;
        let watermark = match &lock {
            Some(lock) => Some(opening.take_over(&file, mark, &loaded, lock)?),
            None => None,
        };
        let future = begun.and_then(|now| in_future(loaded.last_tid, now));
        if let Some(finding) = future {
            findings.push(finding);
        }
        let index_saved_to = match loaded.index_use {
            IndexUse::Used { up_to } => up_to,
            IndexUse::Missing | IndexUse::NotWanted | IndexUse::Ignored { .. } => 0,
        };
        let parts = Parts {
            file: Arc::new(file),
            index: Arc::new(index),
            end: loaded.end,
            last_tid: loaded.last_tid,
            index_saved_to,
            watermark,
            lock,
        };
        let storage = Self::assemble(disk, path, options, parts);
        let report = OpenReport {
            findings: findings.list,
            findings_omitted: findings.omitted,
            index: loaded.index_use,
            objects: storage.objects(),
            size: loaded.end,
            scanned: loaded.scanned,
            last_tid: loaded.last_tid,
            duration: begun.zip(clock).map_or(Duration::ZERO, |(begun, clock)| {
                clock().since_epoch().saturating_sub(begun.since_epoch())
            }),
        };
        Ok((storage, report))
    }
}

impl Default for Options {
    fn default() -> Self {
        let (quota, stop, pack_rate_max, clock, resolver) = (None, None, None, None, None);
        let (create, read_only, pack_gc, pack_keep_old) = (false, false, true, true);
        Self { create, read_only, quota, stop, pack_gc, pack_keep_old, pack_rate_max, clock, resolver }
    }
}

impl Options {
    fn check(&self) -> Result<()> {
        if self.create && self.read_only {
            return Err(StorageError::Format("can't create a read-only file".into()));
        }
        if self.stop.is_some() && !self.read_only {
            return Err(StorageError::Format("time-travel only supported in read-only mode".into()));
        }
        Ok(())
    }
}

struct Opening<'a> {
    disk: &'a dyn Disk,
    path: &'a Path,
    options: &'a Options,
}

/// What the file and its index say.
struct Loaded {
    end: u64,
    last_tid: Tid,
    scanned: u64,
    index_use: IndexUse,
}

impl Opening<'_> {
    /// The file with its magic checked or written.
    fn file(&self) -> Result<DataFile> {
        let access = match (self.options.create, self.options.read_only) {
            (true, _) => Access::Truncate,
            (false, true) => Access::Read,
            (false, false) => Access::WriteOrCreate,
        };
        let file = self.disk.open(self.path, access).map_err(|error| self.io("opening", error))?;
        if self.options.create {
            // What they say may one day seem to fit the new file.
            for beside in [with_suffix(self.path, ".index"), watermark::path_beside(self.path)] {
                match self.disk.remove(&beside) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(self.io("emptying", error));
                    }
                    _ => {}
                }
            }
        }
        let data = DataFile { file, path: self.path.to_path_buf() };
        let len = data.len()?;
        if len == 0 {
            if !self.options.read_only {
                self.write_magic(&data).map_err(|error| data.io("writing", error))?;
            }
            return Ok(data);
        }
        let mut magic = [0; MAGIC.len()];
        match data.file.read_exact_at(&mut magic, 0) {
            Ok(()) if magic == MAGIC => Ok(data),
            Ok(()) if magic == MAGIC_PYTHON_2 => Err(data.corrupt(
                0,
                "it begins with FS21, so it is a database of Python 2; convert it first, with zodbupdate"
                    .into(),
            )),
            Ok(()) => Err(data.corrupt(0, format!("it begins with {}, not FS30", magic.escape_ascii()))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(data.corrupt(0, format!("{len} bytes are no database")))
            }
            Err(error) => Err(data.io("reading", error)),
        }
    }

    /// A pack that was cut short leaves its file; the database is as before it.
    fn remove_unfinished_pack(&self, findings: &mut Findings) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        let path = with_suffix(self.path, ".pack");
        match self.disk.remove(&path) {
            Ok(()) => findings.push(Finding::PackRemoved { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(StorageError::Io { what: "removing what is left of a pack,", path, source });
            }
        }
        Ok(())
    }

    /// Up to where the file is durable for certain, if that is known.
    fn mark(&self, data: &DataFile, was_ours: bool, findings: &mut Findings) -> Result<Option<Mark>> {
        let file_size = data.len()?;
        let found = watermark::find(self.disk, self.path, data, file_size);
        let why = match found {
            Ok(Some(mark)) if was_ours => return Ok(Some(mark)),
            Ok(None) => return Ok(None),
            Ok(Some(_)) => "another program has had the database open since".into(),
            Err(why) => why,
        };
        findings.push(Finding::WatermarkNotUsed { why });
        Ok(None)
    }

    /// Before the first transaction is written or shown: what is there becomes durable, and is marked so.
    fn take_over(
        &self,
        data: &DataFile,
        mark: Option<Mark>,
        loaded: &Loaded,
        lock: &DatabaseLock,
    ) -> Result<Watermark> {
        let durable_to = mark.map_or(loaded.end, |mark| mark.end.min(loaded.end));
        tail::make_durable(data, durable_to..loaded.end)?;
        let Some(mark) = mark else {
            return Watermark::begin(self.disk, self.path, data, loaded.end, || lock.claim());
        };
        lock.sign()?;
        Watermark::resume(self.disk, self.path, mark, data, loaded.end)
    }

    fn write_magic(&self, data: &DataFile) -> io::Result<()> {
        data.file.write_all_at(&mut [IoSlice::new(&MAGIC)], 0)?;
        data.file.sync_all()?;
        self.disk.sync_directory(self.path.parent().unwrap_or(Path::new(".")))
    }

    fn load(
        &self,
        data: &DataFile,
        mark: Option<Mark>,
        findings: &mut Findings,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Index, Loaded)> {
        let file_size = data.len()?;
        let wanted = !self.options.create && self.options.stop.is_none();
        let saved = match wanted {
            true => saved::load(self.disk, &with_suffix(self.path, ".index"), data, file_size),
            false => Ok(None),
        };
        let (index, start, last_tid, index_use) = match saved {
            Ok(Some(saved)) => (saved.index, saved.end, saved.last_tid, IndexUse::Used { up_to: saved.end }),
            Ok(None) if wanted => (Index::default(), FIRST_TRANSACTION, Tid::ZERO, IndexUse::Missing),
            Ok(None) => (Index::default(), FIRST_TRANSACTION, Tid::ZERO, IndexUse::NotWanted),
            Err(why) => (Index::default(), FIRST_TRANSACTION, Tid::ZERO, IndexUse::Ignored { why }),
        };
        let scan = Scan::new(data, &index, file_size, last_tid, findings);
        let scan = match mark {
            Some(mark) => scan.judging_from(mark.end),
            None => scan,
        };
        let Scanned { end, last_tid, tail } = scan.run(start, self.options.stop, progress)?;
        match tail {
            Tail::Clean => {}
            Tail::Room if self.options.read_only => {}
            Tail::Room => tail::cut_at(data, end)?,
            Tail::Trouble(why) => {
                if mark.is_some_and(|mark| end < mark.end) {
                    return Err(data.corrupt(end, format!("{why}, and this was durable once")));
                }
                findings.push(match self.options.read_only {
                    true => Finding::LeftOut { from: end, to: file_size, why },
                    false => tail::cut_off(self.disk, data, end, file_size, why)?,
                });
            }
        }
        Ok((index, Loaded { end, last_tid, scanned: end - start, index_use }))
    }

    fn io(&self, what: &'static str, source: io::Error) -> StorageError {
        StorageError::Io { what, path: self.path.to_path_buf(), source }
    }
}

fn in_future(tid: Tid, now: Timestamp) -> Option<Finding> {
    let by = Timestamp::from_tid(tid).since_epoch().checked_sub(now.since_epoch())?;
    (!by.is_zero()).then_some(Finding::InFuture { tid, by })
}
