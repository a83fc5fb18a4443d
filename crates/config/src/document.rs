//! What a configuration text says, before anybody asks whether it makes sense.

use std::sync::Arc;

/// A whole configuration with everything that it includes.
#[derive(Clone, Debug)]
pub struct Document {
    /// The keys and sections outside of every section. Its kind is empty.
    pub root: Section,
    /// The packages that the text wants to import; whether that can be done is the caller's matter.
    pub imports: Vec<Import>,
}

/// One section, from its opening line to its closing line.
#[derive(Clone, Debug)]
pub struct Section {
    /// The type, in lower case: `filestorage` in `<FileStorage Main>`.
    pub kind: String,
    /// The name, in lower case: `main` in `<FileStorage Main>`.
    pub name: Option<String>,
    /// The opening line.
    pub position: Position,
    /// The keys in the order of the text.
    pub keys: Vec<Key>,
    /// The sections inside, in the order of the text.
    pub sections: Vec<Section>,
}

/// One line `name value`.
#[derive(Clone, Debug)]
pub struct Key {
    /// The name in lower case.
    pub name: String,
    /// The name as it was written.
    pub written: String,
    /// The value with everything substituted; empty if there was none.
    pub value: String,
    /// The line.
    pub position: Position,
}

/// One `%import` line.
#[derive(Clone, Debug)]
pub struct Import {
    /// The dotted name of the Python package.
    pub package: String,
    /// The line.
    pub position: Position,
}

/// A line of a file.
#[derive(Clone, Debug)]
pub struct Position {
    source: Arc<Source>,
    line: Option<usize>,
}

/// A text with the name that errors call it by.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) url: String,
    pub(crate) text: String,
}

impl Position {
    pub(crate) fn new(source: &Arc<Source>, line: usize) -> Self {
        Self { source: Arc::clone(source), line: Some(line) }
    }

    /// A place outside of all files, such as the command line.
    pub(crate) fn outside(name: &str) -> Self {
        Self { source: Arc::new(Source { url: name.to_owned(), text: String::new() }), line: None }
    }

    /// The file, as a URL.
    pub fn url(&self) -> &str {
        &self.source.url
    }

    /// The line, counted from one.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The text of the line, shortened if it is very long.
    pub(crate) fn quote(&self) -> Option<String> {
        let text = self.source.text.split('\n').nth(self.line?.checked_sub(1)?)?.trim();
        if text.is_empty() {
            return None;
        }
        let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        let mut quote: String = text.chars().take(QUOTE_CHARS_MAX).map(printable).collect();
        if text.chars().nth(QUOTE_CHARS_MAX).is_some() {
            quote.push('…');
        }
        Some(quote)
    }
}

impl Section {
    pub(crate) fn new(kind: String, name: Option<String>, position: Position) -> Self {
        Self { kind, name, position, keys: Vec::new(), sections: Vec::new() }
    }
}

const QUOTE_CHARS_MAX: usize = 160;
