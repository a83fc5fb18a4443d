//! Removes blobs for good, at a pace that lets others sync meanwhile (decision 0019).
//!
//! A file system gives the space of what was removed since its last transaction back in the next one, and whoever syncs
//! waits for that. A sync of our own after some megabytes keeps each of them short.

use crate::{directory::parent, files};
use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

/// Removes files and knows how much space that has given free.
#[derive(Default)]
pub(crate) struct Remover {
    /// Bytes since the last sync.
    freed: u64,
}

impl Remover {
    /// Removes a file.
    pub(crate) fn file(&mut self, path: &Path) -> io::Result<()> {
        let found = fs::symlink_metadata(path)?;
        files::remove(path)?;
        // Under another name it stays.
        if found.nlink() == 1 {
            self.freed += found.len();
        }
        if self.freed >= PIECE {
            files::sync_directory(parent(path))?;
            self.freed = 0;
        }
        Ok(())
    }

    /// Removes a directory with all that is in it; of a symbolic link the link.
    pub(crate) fn tree(&mut self, path: &Path) -> io::Result<()> {
        if !fs::symlink_metadata(path)?.is_dir() {
            return self.file(path);
        }
        for entry in fs::read_dir(path)? {
            self.tree(&entry?.path())?;
        }
        files::remove_directory(path)
    }
}

/// After so many bytes there is a sync.
const PIECE: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power_loss_tests::{Change, take};
    use std::fs::File;

    fn file(path: &Path, len: u64) {
        File::create_new(path).unwrap().set_len(len).unwrap();
    }

    #[test]
    fn what_a_symbolic_link_leads_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [root, link, elsewhere] = ["tree", "link", "elsewhere"].map(|name| folder.path().join(name));
        for directory in [&root, &elsewhere] {
            fs::create_dir(directory).unwrap();
        }
        file(&elsewhere.join("blob"), 1);
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.join("inside")).unwrap();
        for path in [&root, &link] {
            Remover::default().tree(path).unwrap();
            assert!(fs::symlink_metadata(path).is_err());
        }
        assert!(elsewhere.join("blob").exists());
    }

    #[test]
    fn a_tree_goes_with_a_sync_now_and_then() {
        let folder = tempfile::tempdir().unwrap();
        let (root, kept) = (folder.path().join("tree"), folder.path().join("kept"));
        let place = root.join("0x01");
        fs::create_dir_all(&place).unwrap();
        for number in 0..4 {
            file(&place.join(number.to_string()), PIECE / 2);
        }
        file(&kept, PIECE * 10);
        fs::hard_link(&kept, place.join("shared")).unwrap();
        Remover::default().tree(&root).unwrap();
        let changes = take();
        assert!(!root.exists() && kept.exists());
        let syncs = changes.iter().filter(|change| matches!(change, Change::SyncDirectory(_))).count();
        assert_eq!(syncs, 2, "{changes:?}");
    }
}
