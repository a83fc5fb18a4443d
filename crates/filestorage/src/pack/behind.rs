//! Writes the packed file: in a thread of its own behind who makes it, if the disk gains by that.
//!
//! The thread has two pieces at most, so there are three in memory. What fails is told to whoever comes next, at
//! the latest to the one who waits for the end of it all.

use crate::file::DataFile;
use std::{
    io::{self, IoSlice},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};
use zeolith_disk::DiskFile;

/// Writes to one file in the order in which it is told to.
pub(super) struct Writer {
    file: Arc<dyn DiskFile>,
    /// Up to where everything that was written is durable.
    synced: u64,
}

impl Writer {
    pub(super) fn new(data: &DataFile) -> Self {
        Self { file: Arc::clone(&data.file), synced: 0 }
    }

    /// Writes what comes next, up to the end of the file so far.
    pub(super) fn append(&mut self, bytes: &[u8], position: u64) -> io::Result<()> {
        let len = bytes.len() as u64;
        self.overwrite(bytes, position)?;
        self.file.start_writing(position, len);
        if position + len - self.synced >= UNSYNCED_MAX {
            // A commit's sync waits for whatever else the file system has to write, so that is kept little.
            self.file.sync_data()?;
            self.synced = position + len;
        }
        Ok(())
    }

    /// Writes where something has been written before.
    pub(super) fn overwrite(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_all_at(&mut [IoSlice::new(bytes)], position)
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self, end: u64) -> io::Result<()> {
        self.file.sync_all()?;
        self.synced = end;
        Ok(())
    }
}

/// A [`Writer`] in a thread of its own.
pub(super) struct Behind {
    jobs: Option<Sender<Job>>,
    /// For each job how it ended, with its buffer, to be used again.
    done: Receiver<io::Result<Vec<u8>>>,
    /// Jobs of which nobody has heard how they ended.
    under_way: usize,
    thread: Option<JoinHandle<()>>,
}

/// What the thread has to do.
struct Job {
    work: Work,
    bytes: Vec<u8>,
    position: u64,
}

#[derive(Clone, Copy)]
enum Work {
    Append,
    Overwrite,
    Sync,
}

impl Behind {
    /// Goes on for a writer that has no thread. `None` if there is none to be had.
    pub(super) fn start(writer: &Writer) -> Option<Self> {
        let mut writer = Writer { file: Arc::clone(&writer.file), synced: writer.synced };
        let (jobs, todo) = channel::<Job>();
        let (told, done) = channel();
        let work = move || {
            for mut job in todo {
                let ended = writer.carry_out(&job).map(|()| {
                    job.bytes.clear();
                    job.bytes
                });
                let is_over = ended.is_err();
                if told.send(ended).is_err() || is_over {
                    // Nothing that comes after a failed write may be written.
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("pack-writer".into()).spawn(work).ok()?;
        Some(Self { jobs: Some(jobs), done, under_way: 0, thread: Some(thread) })
    }

    /// Writes what comes next, and gives an empty buffer for it.
    pub(super) fn append(&mut self, bytes: Vec<u8>, position: u64) -> io::Result<Vec<u8>> {
        self.give(Work::Append, bytes, position)?;
        let mut buffer = Vec::new();
        while self.under_way > JOBS_MAX {
            let used = self.hear()?;
            if used.capacity() > buffer.capacity() {
                buffer = used;
            }
        }
        Ok(buffer)
    }

    /// Writes where something has been written before.
    pub(super) fn overwrite(&mut self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.give(Work::Overwrite, bytes.to_vec(), position)
    }

    /// Makes everything durable, and waits for that.
    pub(super) fn sync(&mut self, end: u64) -> io::Result<()> {
        self.give(Work::Sync, Vec::new(), end)?;
        while self.under_way > 0 {
            self.hear()?;
        }
        Ok(())
    }

    fn give(&mut self, work: Work, bytes: Vec<u8>, position: u64) -> io::Result<()> {
        let jobs = self.jobs.as_ref().expect("the thread is told to end only by the drop");
        self.under_way += 1;
        // A writer that has ended has said why.
        if jobs.send(Job { work, bytes, position }).is_err() {
            while self.under_way > 0 {
                self.hear()?;
            }
        }
        Ok(())
    }

    /// Waits for the end of a job.
    fn hear(&mut self) -> io::Result<Vec<u8>> {
        self.under_way -= 1;
        self.done.recv().unwrap_or_else(|_| Err(io::Error::other("the writer of the pack has failed before")))
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Writer {
    fn carry_out(&mut self, job: &Job) -> io::Result<()> {
        match job.work {
            Work::Append => self.append(&job.bytes, job.position),
            Work::Overwrite => self.overwrite(&job.bytes, job.position),
            Work::Sync => self.sync(job.position),
        }
    }
}

/// So many jobs may be under way.
const JOBS_MAX: usize = 2;
/// So many bytes may be on their way to the disk.
const UNSYNCED_MAX: u64 = 4 << 20;
