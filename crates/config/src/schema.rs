//! How a program says what it accepts: types of sections, their keys, and the sections inside them.
//!
//! All of it is static data, so that section types can contain each other.

use crate::datatypes::DataType;

/// A type of section, or the outermost level, which has an empty name.
#[derive(Debug)]
pub struct SectionType {
    /// The name in lower case.
    pub name: &'static str,
    /// Every key that it knows.
    pub keys: &'static [KeyRule],
    /// Every section that it may contain.
    pub sections: &'static [SectionRule],
    /// Why such a section is refused although its name is known.
    pub refusal: Option<&'static str>,
}

/// A key of a section.
#[derive(Debug)]
pub struct KeyRule {
    /// The name in lower case.
    pub name: &'static str,
    /// What the value looks like.
    pub kind: DataType,
    /// Whether it must be there, and what stands for it if not.
    pub presence: Presence,
    /// Whether it may be repeated.
    pub multi: bool,
    /// Why any value but an empty one is refused although the name is known.
    pub refusal: Option<&'static str>,
}

/// Whether a key must be there.
#[derive(Clone, Copy, Debug)]
pub enum Presence {
    /// It may be left out.
    Optional,
    /// It may not be left out.
    Required,
    /// It may be left out, and then has this value.
    Default(&'static str),
}

/// Sections that may stand inside another one.
#[derive(Debug)]
pub struct SectionRule {
    /// What they are called together, such as `zodb.storage`.
    pub name: &'static str,
    /// The types that they may have.
    pub types: &'static [&'static SectionType],
    /// How many of them there may be.
    pub occurs: Occurs,
}

/// How many sections of a rule there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurs {
    /// None or one.
    Optional,
    /// Exactly one.
    Once,
    /// Any number.
    Any,
    /// One or more.
    Some,
}

impl KeyRule {
    /// A key that may be left out and is then not there.
    pub const fn optional(name: &'static str, kind: DataType) -> Self {
        Self { name, kind, presence: Presence::Optional, multi: false, refusal: None }
    }

    /// A key that may not be left out.
    pub const fn required(name: &'static str, kind: DataType) -> Self {
        Self { name, kind, presence: Presence::Required, multi: false, refusal: None }
    }

    /// A key that has a value when it is left out.
    pub const fn default(name: &'static str, kind: DataType, value: &'static str) -> Self {
        Self { name, kind, presence: Presence::Default(value), multi: false, refusal: None }
    }

    /// The key may be repeated.
    #[must_use]
    pub const fn repeated(mut self) -> Self {
        self.multi = true;
        self
    }

    /// The key is known, but not taken.
    #[must_use]
    pub const fn refused(mut self, why: &'static str) -> Self {
        self.refusal = Some(why);
        self
    }
}
