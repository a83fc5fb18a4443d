//! `cargo xtask tidy`: what is out of order in the tree, file and line.
//!
//! Each check is a function from names and texts to findings, so that its tests need no files.

mod arrows;
mod heads;
mod lines;
mod links;
mod sizes;
mod source;
mod words;

use std::{collections::BTreeMap, fmt, fs};

use crate::workspace::Workspace;

/// Something out of order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, relative to the root.
    pub(crate) file: String,
    /// The line from 1 on; 0 if it is about the file as a whole.
    pub(crate) line: usize,
    /// What is wrong, and what would be right.
    pub(crate) what: String,
}

impl Finding {
    fn new(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// The texts of the tree by name; files that are not UTF-8 are not among them.
pub(crate) type Texts = BTreeMap<String, String>;

/// Prints all findings and whether there are none.
pub(crate) fn report(workspace: &Workspace) -> Result<bool, String> {
    let (files, findings) = inspect(workspace)?;
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {files} files, {} findings", findings.len());
    Ok(findings.is_empty())
}

fn inspect(workspace: &Workspace) -> Result<(usize, Vec<Finding>), String> {
    let files = workspace.files()?;
    let mut findings = Vec::new();
    let mut texts = Texts::new();
    for name in &files {
        let bytes =
            fs::read(workspace.root.join(name)).map_err(|error| format!("cannot read {name}: {error}"))?;
        findings.extend(sizes::of_bytes(name, bytes.len()));
        if let Ok(text) = String::from_utf8(bytes) {
            texts.insert(name.clone(), text);
        }
    }
    findings.extend(arrows::check(&workspace.packages));
    findings.extend(links::check(&files, &texts));
    for (name, text) in &texts {
        findings.extend(sizes::of_lines(name, text));
        findings.extend(heads::check(name, text));
        findings.extend(lines::check(name, text));
        findings.extend(words::check(name, text));
    }
    findings.sort();
    findings.dedup();
    Ok((files.len(), findings))
}
