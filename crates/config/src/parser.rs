//! Reads a configuration text and everything that it includes into one document.
//!
//! Open files and open sections are two stacks of bounded depth; one budget covers all text that is
//! read and all text that substitution makes, so that neither includes nor defines can multiply.

use crate::{
    document::{Document, Import, Key, Position, Section, Source},
    error::ConfigError,
    line::Line,
    location::{file_url, resolve},
    python::{is_space, quoted},
    substitute::{Name, name_len, substitute},
    suggest::suggest,
    surroundings::Surroundings,
};
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Reads the configuration at a path or `file:` URL.
///
/// # Errors
/// If it can't be read, or its text is not of the grammar.
pub fn load(location: &str, surroundings: &dyn Surroundings) -> Result<Document, ConfigError> {
    let path = resolve(location, &surroundings.working_directory()).map_err(ConfigError::new)?;
    let mut parser = Parser::new(surroundings);
    let text = parser.read(&path).map_err(ConfigError::new)?;
    parser.enter(file_url(&path), text, Some(path));
    parser.run()
}

/// Reads a configuration that is already in memory. Its includes are seen from the working directory.
///
/// # Errors
/// If the text is not of the grammar.
pub fn parse(url: &str, text: &str, surroundings: &dyn Surroundings) -> Result<Document, ConfigError> {
    let mut parser = Parser::new(surroundings);
    if text.len() > parser.budget {
        return Err(ConfigError::new(TOO_LARGE));
    }
    parser.enter(url.to_owned(), text.to_owned(), None);
    parser.run()
}

struct Parser<'a> {
    surroundings: &'a dyn Surroundings,
    files: Vec<OpenFile>,
    sections: Vec<OpenSection>,
    defines: HashMap<String, String>,
    imports: Vec<Import>,
    budget: usize,
}

struct OpenFile {
    source: Arc<Source>,
    path: Option<PathBuf>,
    offset: usize,
    line: usize,
    /// How many sections were open when the file was entered: it must leave as many.
    sections: usize,
}

struct OpenSection {
    section: Section,
    names: HashSet<String>,
}

impl<'a> Parser<'a> {
    fn new(surroundings: &'a dyn Surroundings) -> Self {
        Self {
            surroundings,
            files: Vec::new(),
            sections: Vec::new(),
            defines: HashMap::new(),
            imports: Vec::new(),
            budget: TEXT_SIZE_MAX,
        }
    }

    fn read(&self, path: &Path) -> Result<String, String> {
        let limit = self.budget as u64 + 1;
        let content = self
            .surroundings
            .read(path, limit)
            .map_err(|error| format!("error opening file {}: {error}", path.display()))?;
        if content.len() > self.budget {
            return Err(TOO_LARGE.to_owned());
        }
        String::from_utf8(content).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("the file {} is not UTF-8 text: see its line {line}", path.display())
        })
    }

    fn enter(&mut self, url: String, text: String, path: Option<PathBuf>) {
        self.budget = self.budget.saturating_sub(text.len());
        let offset = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let source = Arc::new(Source { url, text });
        if self.sections.is_empty() {
            let mut position = Position::new(&source, 1);
            position = Position::outside(position.url());
            self.sections.push(OpenSection::new(Section::new(String::new(), None, position)));
        }
        self.files.push(OpenFile { source, path, offset, line: 0, sections: self.sections.len() });
    }

    fn run(mut self) -> Result<Document, ConfigError> {
        while let Some(file) = self.files.last_mut() {
            let source = Arc::clone(&file.source);
            let rest = &source.text[file.offset..];
            if rest.is_empty() {
                let position = Position::new(&source, file.line);
                if self.sections.len() != file.sections {
                    let open = &self.innermost().section;
                    let hint =
                        open.position.line().map(|line| format!("<{}> of line {line} is open.", open.kind));
                    return Err(ConfigError::at(&position, "unclosed sections not allowed").with_hint(hint));
                }
                self.files.pop();
                continue;
            }
            let text = rest.split('\n').next().unwrap_or(rest);
            file.offset += (text.len() + 1).min(rest.len());
            file.line += 1;
            let position = Position::new(&source, file.line);
            let line = Line::cut(text).map_err(|message| ConfigError::at(&position, message))?;
            self.take(line, &position)?;
        }
        let root = self.sections.pop().expect("the root is only popped here").section;
        Ok(Document { root, imports: self.imports })
    }

    fn take(&mut self, line: Line<'_>, position: &Position) -> Result<(), ConfigError> {
        match line {
            Line::Blank => Ok(()),
            Line::Start { kind, name, empty } => self.start(kind, name, empty, position),
            Line::End { kind } => self.end(kind, position),
            Line::Key { name, value } => self.key(name, value, position),
            Line::Directive { name, argument } => self.directive(name, argument, position),
        }
    }

    fn start(
        &mut self,
        kind: &str,
        name: Option<&str>,
        empty: bool,
        position: &Position,
    ) -> Result<(), ConfigError> {
        if self.sections.len() > DEPTH_MAX {
            return Err(ConfigError::at(position, format!("sections are nested deeper than {DEPTH_MAX}")));
        }
        let kind = kind.to_lowercase();
        let name = name.map(str::to_lowercase);
        if let Some(name) = &name
            && !self.innermost().names.insert(name.clone())
        {
            let message =
                format!("section names must not be re-used within the same container:{}", quoted(name));
            return Err(ConfigError::at(position, message));
        }
        self.sections.push(OpenSection::new(Section::new(kind, name, position.clone())));
        if empty {
            self.close();
        }
        Ok(())
    }

    fn end(&mut self, kind: &str, position: &Position) -> Result<(), ConfigError> {
        let outermost = self.files.last().map_or(0, |file| file.sections);
        if self.sections.len() <= outermost {
            return Err(ConfigError::at(position, "unexpected section end"));
        }
        let open = &self.innermost().section;
        if open.kind != kind.to_lowercase() {
            let hint = open.position.line().map(|line| format!("<{}> of line {line} is open.", open.kind));
            return Err(ConfigError::at(position, "unbalanced section end").with_hint(hint));
        }
        self.close();
        Ok(())
    }

    fn close(&mut self) {
        let closed = self.sections.pop().expect("the caller saw an open section").section;
        self.innermost().section.sections.push(closed);
    }

    fn innermost(&mut self) -> &mut OpenSection {
        self.sections.last_mut().expect("the root stays open until the end")
    }

    fn key(&mut self, written: &str, value: &str, position: &Position) -> Result<(), ConfigError> {
        let value = self.replace(value, position)?;
        let letters = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if !written.starts_with(|c: char| c.is_ascii_alphabetic()) || !written.chars().all(letters) {
            let message = format!("value did not match regular expression: {}", quoted(written));
            let hint = "A key starts with a letter and goes on with letters, digits, '-', '.' and '_'.";
            return Err(ConfigError::at(position, message).with_hint(Some(hint.to_owned())));
        }
        let name = written.to_ascii_lowercase();
        let key = Key { name, written: written.to_owned(), value, position: position.clone() };
        self.innermost().section.keys.push(key);
        Ok(())
    }

    fn directive(&mut self, name: &str, argument: &str, position: &Position) -> Result<(), ConfigError> {
        let known = ["define", "import", "include"];
        if !known.contains(&name) {
            let error = ConfigError::at(position, format!("unknown directive: {}", quoted(name)));
            return Err(error.with_hint(suggest(name, known.into_iter())));
        }
        if argument.is_empty() {
            return Err(ConfigError::at(position, format!("missing argument to %{name} directive")));
        }
        match name {
            "define" => self.define(argument, position),
            "include" => self.include(argument, position),
            _ => {
                let package = self.replace(argument, position)?;
                self.imports.push(Import { package, position: position.clone() });
                Ok(())
            }
        }
    }

    fn define(&mut self, argument: &str, position: &Position) -> Result<(), ConfigError> {
        let (name, value) = argument.split_once(is_space).unwrap_or((argument, ""));
        let name = name.to_lowercase();
        if name_len(&name) != name.len() {
            let message = format!("not a substitution legal name: {}", quoted(&name));
            return Err(ConfigError::at(position, message));
        }
        let value = self.replace(value.trim_start_matches(is_space), position)?;
        if self.defines.get(&name).is_some_and(|old| *old != value) {
            return Err(ConfigError::at(position, format!("cannot redefine {}", quoted(&name))));
        }
        self.defines.insert(name, value);
        Ok(())
    }

    fn include(&mut self, argument: &str, position: &Position) -> Result<(), ConfigError> {
        let error = |message: String| ConfigError::at(position, message);
        let target = self.replace(argument, position)?;
        let directory = self
            .files
            .iter()
            .rev()
            .find_map(|file| file.path.as_deref()?.parent().map(Path::to_path_buf))
            .unwrap_or_else(|| self.surroundings.working_directory());
        let path = resolve(&target, &directory).map_err(error)?;
        if self.files.iter().any(|file| file.path.as_ref() == Some(&path)) {
            return Err(error(format!("the file includes itself: {}", path.display())));
        }
        if self.files.len() >= INCLUDES_MAX {
            return Err(error(format!("includes are nested deeper than {INCLUDES_MAX}")));
        }
        let text = self.read(&path).map_err(error)?;
        // A file costs something even if it is empty, so that many includes of nothing come to an end.
        self.budget = self.budget.saturating_sub(INCLUDE_COST);
        self.enter(file_url(&path), text, Some(path));
        Ok(())
    }

    fn replace(&mut self, text: &str, position: &Position) -> Result<String, ConfigError> {
        let value = substitute(text, VALUE_SIZE_MAX.min(self.budget), |name| match name {
            Name::Define(name) => self.defines.get(&name.to_lowercase()).cloned(),
            Name::Environment(name) => self.surroundings.variable(name),
        })
        .map_err(|message| ConfigError::at(position, message))?;
        // What stands in the text has been counted when it was read.
        self.budget = self.budget.saturating_sub(value.len().saturating_sub(text.len()));
        Ok(value)
    }
}

impl OpenSection {
    fn new(section: Section) -> Self {
        Self { section, names: HashSet::new() }
    }
}

/// All text of a configuration, read or made by substitution.
const TEXT_SIZE_MAX: usize = 16 << 20;
const VALUE_SIZE_MAX: usize = 64 << 10;
const INCLUDE_COST: usize = 1 << 10;
const DEPTH_MAX: usize = 32;
const INCLUDES_MAX: usize = 32;
const TOO_LARGE: &str = "the configuration with all that it includes is larger than 16 MB";

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
