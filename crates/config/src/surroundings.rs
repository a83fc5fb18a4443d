//! What a configuration looks at outside of its own text: files, directories, the environment.

use std::{
    env, fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The world that a configuration refers to. Tests bring their own.
pub trait Surroundings {
    /// The content of a file, or at most `size_max` bytes of it.
    ///
    /// # Errors
    /// As the operating system says.
    fn read(&self, path: &Path, size_max: u64) -> io::Result<Vec<u8>>;

    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;

    /// Whether this is a directory.
    fn is_directory(&self, path: &Path) -> bool;

    /// Whether there is anything of that name.
    fn exists(&self, path: &Path) -> bool;

    /// The directory that relative paths start from.
    fn working_directory(&self) -> PathBuf;

    /// The home directory of a user, or of the present one.
    fn home(&self, user: Option<&str>) -> Option<String>;
}

/// The machine that the program runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Surroundings for System {
    fn read(&self, path: &Path, size_max: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        fs::File::open(path)?.take(size_max).read_to_end(&mut content)?;
        Ok(content)
    }

    fn variable(&self, name: &str) -> Option<String> {
        env::var(name).ok()
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn working_directory(&self) -> PathBuf {
        env::current_dir().unwrap_or_default()
    }

    fn home(&self, user: Option<&str>) -> Option<String> {
        let Some(user) = user else {
            return self.variable("HOME");
        };
        let users = fs::read_to_string("/etc/passwd").ok()?;
        let entry = users.lines().find(|line| line.split(':').next() == Some(user))?;
        entry.split(':').nth(5).map(str::to_owned)
    }
}
