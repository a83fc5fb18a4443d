//! Puts defines and the environment into a value: `$name`, `${name}`, `$(NAME)`, `$$`.

use crate::python::quoted;

/// What stands for a name, by the kind of its brackets.
pub(crate) enum Name<'a> {
    /// `$name` or `${name}`: a define, whatever its case.
    Define(&'a str),
    /// `$(NAME)`: the environment.
    Environment(&'a str),
}

/// The text with every reference replaced, which may not become longer than `size_max` bytes.
pub(crate) fn substitute(
    text: &str,
    size_max: usize,
    lookup: impl Fn(&Name<'_>) -> Option<String>,
) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('$') {
        out.push_str(plain);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else {
            let (name, after) = reference(after)?;
            let value = lookup(&name).ok_or_else(|| {
                let (Name::Define(name) | Name::Environment(name)) = name;
                format!("no replacement for {}", quoted(name))
            })?;
            out.push_str(&value);
            rest = after;
        }
        if out.len() > size_max {
            return Err(format!("the value is longer than {size_max} bytes once everything is put in"));
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The name after a `$`, and what follows the reference.
fn reference(text: &str) -> Result<(Name<'_>, &str), String> {
    match text.chars().next() {
        None => Err("illegal lone '$' at end of source".to_owned()),
        Some('{') => bracketed(&text[1..], '{', '}').map(|(name, rest)| (Name::Define(name), rest)),
        Some('(') => bracketed(&text[1..], '(', ')').map(|(name, rest)| (Name::Environment(name), rest)),
        Some(_) => match name_len(text) {
            0 => Err("'$' not followed by '$' or name".to_owned()),
            len => Ok((Name::Define(&text[..len]), &text[len..])),
        },
    }
}

fn bracketed(text: &str, open: char, close: char) -> Result<(&str, &str), String> {
    let (name, rest) = text.split_at(name_len(text));
    if name.is_empty() {
        return Err(format!("'${open}' not followed by name"));
    }
    let rest =
        rest.strip_prefix(close).ok_or_else(|| format!("'${open}{name}' not followed by '{close}'"))?;
    Ok((name, rest))
}

/// How many bytes of the text are a name: a letter or `_`, then letters, digits and `_`.
pub(crate) fn name_len(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(text: &str) -> Result<String, String> {
        substitute(text, 40, |name| match name {
            Name::Define(name) => (name.to_lowercase() == "x").then(|| "10".to_owned()),
            Name::Environment(name) => (*name == "HOME").then(|| "/h".to_owned()),
        })
    }

    #[test]
    fn every_form_of_reference_is_replaced() {
        assert_eq!(put("plain").unwrap(), "plain");
        assert_eq!(put("$x/${X}a$$x$(HOME)/ü").unwrap(), "10/10a$x/h/ü");
    }

    #[test]
    fn wrong_references_are_told_as_the_reference_does() {
        assert_eq!(put("a$").unwrap_err(), "illegal lone '$' at end of source");
        assert_eq!(put("$-").unwrap_err(), "'$' not followed by '$' or name");
        assert_eq!(put("${").unwrap_err(), "'${' not followed by name");
        assert_eq!(put("${x").unwrap_err(), "'${x' not followed by '}'");
        assert_eq!(put("$(x}").unwrap_err(), "'$(x' not followed by ')'");
        assert_eq!(put("$Y").unwrap_err(), "no replacement for 'Y'");
        assert_eq!(put("$(home)").unwrap_err(), "no replacement for 'home'");
    }

    #[test]
    fn a_value_can_not_grow_past_its_bound() {
        assert!(put(&"$x".repeat(20)).is_ok());
        assert!(put(&"$x".repeat(21)).is_err());
    }
}
