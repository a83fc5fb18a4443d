//! A log format, compiled once and rendered for every record.

use super::{
    braces,
    date::DateFormat,
    fields::{Field, FieldValue},
    number::Spec,
    percent,
    record::Record,
    template,
};

/// How a format refers to fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `%(name)s`
    Percent,
    /// `{name}`
    Braces,
    /// `$name` and `${name}`
    Template,
    /// As `Template`; what is not known stays as it is.
    SafeTemplate,
}

/// A format whose fields are all known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Format {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Literal(String),
    /// A field, its form, and what stands for it if the record lacks it.
    Field {
        field: Field,
        spec: Spec,
        otherwise: String,
    },
}

impl Format {
    /// Compiles a format; fields that no record has are refused unless `any_field` is set.
    pub(crate) fn compile(format: &str, style: Style, any_field: bool) -> Result<Self, String> {
        let pieces = match style {
            Style::Percent => percent::compile(format, any_field),
            Style::Braces => braces::compile(format, any_field),
            Style::Template => template::compile(format, any_field, false),
            Style::SafeTemplate => template::compile(format, any_field, true),
        };
        let pieces = pieces.map_err(|reason| format!("Invalid log format string {format}: {reason}"))?;
        Ok(Self { pieces })
    }

    /// The line for a record.
    pub(super) fn render(&self, record: &Record, date_format: &DateFormat) -> String {
        let mut line = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => line.push_str(text),
                Piece::Field { field, spec, otherwise } => match field.value(record, date_format) {
                    Some(value) => line.push_str(&spec.render(&value)),
                    None => line.push_str(otherwise),
                },
            }
        }
        line
    }
}

/// A field in a form that suits it.
pub(super) fn field(name: &str, any: bool, spec: Spec, written: &str) -> Result<Piece, String> {
    let field = Field::named(name, any).ok_or_else(|| format!("there is no field '{name}'"))?;
    if !spec.suits(&example(&field)) {
        return Err(format!("'{written}' does not suit the field '{name}'"));
    }
    Ok(Piece::Field { field, spec, otherwise: written.to_owned() })
}

/// Adds text to the last piece, or as a new one.
pub(super) fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if let Some(Piece::Literal(last)) = pieces.last_mut() {
        last.push_str(text);
    } else if !text.is_empty() {
        pieces.push(Piece::Literal(text.to_owned()));
    }
}

/// A value of the type that the field always has.
fn example(field: &Field) -> FieldValue {
    match field {
        Field::LevelNumber | Field::LineNumber | Field::Thread | Field::Process => FieldValue::Integer(1),
        Field::Created | Field::Milliseconds | Field::RelativeCreated => FieldValue::Real(1.0),
        Field::Name
        | Field::LevelName
        | Field::PathName
        | Field::FileName
        | Field::Module
        | Field::FunctionName
        | Field::AsciiTime
        | Field::ThreadName
        | Field::ProcessName
        | Field::Message
        | Field::Other(_) => FieldValue::Text(String::new()),
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
