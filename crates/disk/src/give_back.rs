//! Gives back the space of a file that has lost its names, a piece at a time.
//!
//! A file system gives space back in one of its own transactions, and who syncs anything meanwhile waits for it: half a
//! second for two gigabytes, where the device is told what is free (mount option `discard`). In pieces nobody
//! waits for more than one of them.

use crate::{DiskFile, Onlookers};
use std::{io, thread, time::Duration};

impl dyn DiskFile + '_ {
    /// Makes the file shorter and shorter, if nobody can see that: it has no name any more, and nobody else has it open.
    /// Whoever has is waited for as long as `patience`. Otherwise nothing happens here, and the end of the last handle
    /// gives back everything at once.
    ///
    /// # Errors
    /// What the operating system said; the file is shorter then, or as it was.
    pub fn give_back(&self, patience: Duration) -> io::Result<()> {
        let mut len = self.len()?;
        if len <= PIECE || !self.is_left_alone(patience)? {
            return Ok(());
        }
        while len > 0 {
            len = len.saturating_sub(PIECE);
            self.set_len(len)?;
            // Or the file system would put all pieces into one transaction.
            self.sync_all()?;
        }
        Ok(())
    }

    fn is_left_alone(&self, patience: Duration) -> io::Result<bool> {
        let mut waited = Duration::ZERO;
        loop {
            match self.onlookers()? {
                Onlookers::None => return Ok(true),
                Onlookers::Handles if waited < patience => {}
                Onlookers::Handles | Onlookers::Names | Onlookers::Unknown => return Ok(false),
            }
            thread::sleep(PAUSE);
            waited += PAUSE;
        }
    }
}

/// Bytes that are given back at a time.
const PIECE: u64 = 16 << 20;
/// Between two looks at who else has the file open.
const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, Disk, RealDisk};
    use std::sync::Arc;

    const LEN: u64 = 3 * PIECE;

    /// A file without a name, and another handle of it.
    fn nameless() -> (Arc<dyn DiskFile>, Arc<dyn DiskFile>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let file = RealDisk.open(&path, Access::CreateNew).unwrap();
        file.set_len(LEN).unwrap();
        let other = RealDisk.open(&path, Access::Read).unwrap();
        RealDisk.remove(&path).unwrap();
        (file, other, folder)
    }

    #[test]
    fn a_file_that_nobody_can_see_is_emptied() {
        let (file, other, _folder) = nameless();
        drop(other);
        file.give_back(Duration::ZERO).unwrap();
        assert_eq!(file.len().unwrap(), 0);
    }

    #[test]
    fn a_file_that_somebody_still_reads_stays_as_it_is() {
        let (file, other, _folder) = nameless();
        file.give_back(PAUSE).unwrap();
        assert_eq!(other.len().unwrap(), LEN);
    }

    #[test]
    fn who_still_reads_it_is_waited_for() {
        let (file, other, _folder) = nameless();
        thread::scope(|scope| {
            let giving = scope.spawn(|| file.give_back(Duration::from_secs(60)));
            drop(other);
            giving.join().unwrap().unwrap();
        });
        assert_eq!(file.len().unwrap(), 0);
    }

    #[test]
    fn a_file_with_a_name_stays_as_it_is_however_many_it_has_lost() {
        let folder = tempfile::tempdir().unwrap();
        let [path, second] = ["f", "second"].map(|name| folder.path().join(name));
        let file = RealDisk.open(&path, Access::CreateNew).unwrap();
        file.set_len(LEN).unwrap();
        RealDisk.link(&path, &second).unwrap();
        RealDisk.remove(&path).unwrap();
        file.give_back(Duration::from_secs(60)).unwrap();
        assert_eq!(file.len().unwrap(), LEN);
    }
}
