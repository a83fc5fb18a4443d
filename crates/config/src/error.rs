//! What is wrong with a configuration, and where.
//!
//! Reads as the reference's errors do, `<message> (line N, in <url>)`, and then goes on where the
//! reference stops: the line itself, and what the author may have meant.

use crate::document::Position;
use std::fmt;

/// A configuration that can't be used, with the place that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    message: String,
    place: Option<Place>,
    hint: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    url: String,
    line: Option<usize>,
    quote: Option<String>,
}

impl ConfigError {
    /// An error that belongs to no particular line.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, hint: None }
    }

    /// An error in a line of a file.
    pub fn at(position: &Position, message: impl Into<String>) -> Self {
        let place = Place { url: position.url().to_owned(), line: position.line(), quote: position.quote() };
        Self { message: message.into(), place: Some(place), hint: None }
    }

    /// Adds what the author may have meant, or could do.
    #[must_use]
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The line in the file, counted from one.
    pub fn line(&self) -> Option<usize> {
        self.place.as_ref().and_then(|place| place.line)
    }

    /// The file, as a URL.
    pub fn url(&self) -> Option<&str> {
        self.place.as_ref().map(|place| place.url.as_str())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(place) = &self.place {
            match place.line {
                Some(line) => write!(f, " (line {line}, in {})", place.url)?,
                None => write!(f, " (in {})", place.url)?,
            }
            if let Some(quote) = &place.quote {
                write!(f, "\n    {quote}")?;
            }
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n{hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
