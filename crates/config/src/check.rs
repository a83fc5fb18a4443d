//! Holds a document against what a program accepts, and gives its values their types.
//!
//! The first thing that is wrong is the error, in the order in which the reference would meet it:
//! what stands in the text before what is missing from it.

use crate::{
    address::SocketAddress,
    datatypes::Value,
    document::{Document, Key, Position, Section},
    error::ConfigError,
    python::quoted,
    schema::{KeyRule, Occurs, Presence, SectionRule, SectionType},
    suggest::suggest,
    surroundings::Surroundings,
};
use std::{collections::HashMap, path::Path};

/// A section whose keys are all known and typed.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The type.
    pub kind: &'static str,
    /// The name, in lower case.
    pub name: Option<String>,
    /// The opening line.
    pub position: Position,
    /// The sections inside.
    pub sections: Vec<Checked>,
    values: HashMap<&'static str, Vec<Given>>,
}

#[derive(Clone, Debug)]
struct Given {
    value: Value,
    /// `None` for a default.
    position: Option<Position>,
}

/// Holds a document against its schema.
///
/// # Errors
/// Names the file, the line and the first thing that is not as the schema wants it.
pub fn check(
    document: &Document,
    schema: &'static SectionType,
    surroundings: &dyn Surroundings,
) -> Result<Checked, ConfigError> {
    Checker { known: all_types(schema), surroundings }.section(&document.root, schema)
}

struct Checker<'a> {
    known: Vec<&'static str>,
    surroundings: &'a dyn Surroundings,
}

impl Checker<'_> {
    /// As deep as the document, whose depth the parser bounds.
    fn section(&self, section: &Section, kind: &'static SectionType) -> Result<Checked, ConfigError> {
        let mut checked = Checked {
            kind: kind.name,
            name: section.name.clone(),
            position: section.position.clone(),
            sections: Vec::new(),
            values: HashMap::new(),
        };
        if let Some(why) = kind.refusal {
            return Err(ConfigError::at(&section.position, why));
        }
        for key in &section.keys {
            self.key(key, kind, &mut checked)?;
        }
        let mut counts = vec![0_usize; kind.sections.len()];
        for inner in &section.sections {
            let (rule, inner_kind) = self.rule(inner, kind)?;
            counts[rule] += 1;
            if counts[rule] > 1 && matches!(kind.sections[rule].occurs, Occurs::Optional | Occurs::Once) {
                let message = format!("too many instances of {} section", quoted(kind.sections[rule].name));
                return Err(ConfigError::at(&inner.position, message));
            }
            checked.sections.push(self.section(inner, inner_kind)?);
        }
        self.complete(&mut checked, kind)?;
        match kind.sections.iter().zip(counts).find(|(rule, count)| *count == 0 && rule.is_required()) {
            Some((rule, _)) => Err(checked.error(rule.missing())),
            None => Ok(checked),
        }
    }

    fn key(&self, key: &Key, kind: &SectionType, checked: &mut Checked) -> Result<(), ConfigError> {
        let Some(rule) = kind.keys.iter().find(|rule| rule.name == key.name) else {
            let message = format!("{} is not a known key name", quoted(&key.written));
            let hint = suggest(&key.name, kind.keys.iter().map(|rule| rule.name));
            return Err(ConfigError::at(&key.position, message).with_hint(hint));
        };
        if let Some(why) = rule.refusal.filter(|_| !key.value.is_empty()) {
            return Err(ConfigError::at(&key.position, why));
        }
        let given = checked.values.entry(rule.name).or_default();
        if !rule.multi && !given.is_empty() {
            let message = format!("{} does not support multiple values", quoted(&key.written));
            return Err(ConfigError::at(&key.position, message));
        }
        let value = rule
            .kind
            .convert(&key.value, self.surroundings)
            .map_err(|message| ConfigError::at(&key.position, message))?;
        given.push(Given { value, position: Some(key.position.clone()) });
        Ok(())
    }

    /// The rule that a section stands under, and its type.
    fn rule(
        &self,
        inner: &Section,
        kind: &'static SectionType,
    ) -> Result<(usize, &'static SectionType), ConfigError> {
        if let Some(name @ ("*" | "+")) = inner.name.as_deref() {
            let message =
                format!("{} is not an allowed name for {} sections", quoted(name), quoted(&inner.kind));
            return Err(ConfigError::at(&inner.position, message));
        }
        let allowed = kind.sections.iter().enumerate();
        let found = allowed
            .flat_map(|(at, rule)| rule.types.iter().map(move |kind| (at, *kind)))
            .find(|(_, kind)| kind.name == inner.kind);
        if let Some(found) = found {
            return Ok(found);
        }
        if self.known.contains(&inner.kind.as_str()) {
            let name = inner.name.as_deref().unwrap_or("None");
            let message = format!("no matching section defined for type='{}', name='{name}'", inner.kind);
            let place = if kind.name.is_empty() {
                format!("<{}> belongs into another section.", inner.kind)
            } else {
                format!("<{}> can't stand inside <{}>.", inner.kind, kind.name)
            };
            return Err(ConfigError::at(&inner.position, message).with_hint(Some(place)));
        }
        let message = format!("unknown type name: {}", quoted(&inner.kind));
        let hint = suggest(&inner.kind, self.known.iter().copied());
        Err(ConfigError::at(&inner.position, message).with_hint(hint))
    }

    /// Puts in the defaults and misses what must be there.
    fn complete(&self, checked: &mut Checked, kind: &SectionType) -> Result<(), ConfigError> {
        for rule in
            kind.keys.iter().filter(|rule| !checked.values.contains_key(rule.name)).collect::<Vec<_>>()
        {
            match rule.presence {
                Presence::Optional => {}
                Presence::Required => return Err(checked.error(rule.missing())),
                Presence::Default(text) => {
                    let value = rule
                        .kind
                        .convert(text, self.surroundings)
                        .map_err(|message| checked.error(message))?;
                    checked.values.insert(rule.name, vec![Given { value, position: None }]);
                }
            }
        }
        Ok(())
    }
}

impl KeyRule {
    fn missing(&self) -> String {
        if self.multi {
            return format!("not enough values for {}; 0 found, 1 required", quoted(self.name));
        }
        format!("no values for {}; 1 required", quoted(self.name))
    }
}

impl SectionRule {
    fn is_required(&self) -> bool {
        match self.occurs {
            Occurs::Once | Occurs::Some => true,
            Occurs::Optional | Occurs::Any => false,
        }
    }

    fn missing(&self) -> String {
        if self.occurs == Occurs::Once {
            return format!("no values for section type {}; 1 required", quoted(self.name));
        }
        format!("not enough values for section type {}; 0 found, 1 required", quoted(self.name))
    }
}

impl Checked {
    /// The value of a boolean key.
    pub fn boolean(&self, key: &str) -> Option<bool> {
        self.first(key, |value| if let Value::Boolean(value) = value { Some(*value) } else { None })
    }

    /// The value of an integer key, a size or an interval.
    pub fn integer(&self, key: &str) -> Option<i64> {
        self.first(key, |value| if let Value::Integer(value) = value { Some(*value) } else { None })
    }

    /// The value of a float key.
    pub fn float(&self, key: &str) -> Option<f64> {
        self.first(key, |value| if let Value::Float(value) = value { Some(*value) } else { None })
    }

    /// The value of a text key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.first(key, |value| if let Value::Text(value) = value { Some(value.as_str()) } else { None })
    }

    /// The value of a path key.
    pub fn path(&self, key: &str) -> Option<&Path> {
        self.first(key, |value| if let Value::Path(value) = value { Some(value.as_path()) } else { None })
    }

    /// The value of a socket address key.
    pub fn address(&self, key: &str) -> Option<&SocketAddress> {
        self.first(key, |value| if let Value::Address(value) = value { Some(value) } else { None })
    }

    /// Whether the text gives the key, and not the default.
    pub fn is_given(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|given| given.iter().any(|given| given.position.is_some()))
    }

    /// The sections of one type.
    pub fn sections_of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Checked> {
        self.sections.iter().filter(move |section| section.kind == kind)
    }

    /// An error in this section.
    pub fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError::at(&self.position, message)
    }

    /// An error in the line of a key, or in this section if the key was not given.
    pub fn key_error(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let given = self.values.get(key).and_then(|given| given.first()?.position.as_ref());
        ConfigError::at(given.unwrap_or(&self.position), message)
    }

    fn first<'a, T>(&'a self, key: &str, take: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        take(&self.values.get(key)?.first()?.value)
    }
}

/// The names of all types that can be reached from the outermost one.
fn all_types(schema: &'static SectionType) -> Vec<&'static str> {
    let mut names = Vec::new();
    let mut waiting = vec![schema];
    while let Some(kind) = waiting.pop() {
        for inner in kind.sections.iter().flat_map(|rule| rule.types) {
            if !names.contains(&inner.name) {
                names.push(inner.name);
                waiting.push(inner);
            }
        }
    }
    names
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
