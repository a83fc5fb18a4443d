//! Settings from the command line that take the place of those in the file: `section/key=value`.

use crate::{
    document::{Document, Key, Position, Section},
    error::ConfigError,
    python::quoted,
};
use std::collections::HashSet;

impl Document {
    /// Puts the values of `path/to/key=value` in place of those of the document. A step of the path is
    /// the name or the type of a section, the first that fits.
    ///
    /// # Errors
    /// In the words of ZConfig, if a specifier is malformed or its section is not there.
    pub fn apply_overrides(&mut self, specifiers: &[String]) -> Result<(), ConfigError> {
        let mut replaced = HashSet::new();
        for specifier in specifiers {
            let position = Position::outside("<command-line option>");
            let (path, value) = specifier
                .split_once('=')
                .ok_or_else(|| ConfigError::at(&position, "invalid configuration specifier"))?;
            let steps: Vec<String> = path.split('/').map(str::to_lowercase).collect();
            if steps.iter().any(String::is_empty) {
                return Err(ConfigError::at(&position, "'//' is not allowed in an option path"));
            }
            let (key, steps) = steps.split_last().expect("a split has at least one part");
            let section = find(&mut self.root, steps).ok_or_else(|| {
                let error = ConfigError::new("not all command line options were consumed");
                error.with_hint(Some(format!("There is no section for {}.", quoted(specifier))))
            })?;
            if replaced.insert(path.to_lowercase()) {
                section.keys.retain(|old| old.name != *key);
            }
            let (name, written) = (key.clone(), key.clone());
            section.keys.push(Key { name, written, value: value.to_owned(), position });
        }
        Ok(())
    }
}

fn find<'a>(root: &'a mut Section, steps: &[String]) -> Option<&'a mut Section> {
    steps.iter().try_fold(root, |section, step| {
        section.sections.iter_mut().find(|inner| inner.name.as_ref() == Some(step) || inner.kind == *step)
    })
}

#[cfg(test)]
mod tests {
    use crate::{parse, surroundings::System};

    fn overridden(specifiers: &[&str]) -> Result<Vec<(String, String)>, String> {
        let mut document = parse("x", "<a b>\nk 1\nk 2\n</a>\n", &System).unwrap();
        let specifiers: Vec<String> = specifiers.iter().map(|s| (*s).to_owned()).collect();
        document.apply_overrides(&specifiers).map_err(|error| error.to_string())?;
        let keys = &document.root.sections[0].keys;
        Ok(keys.iter().map(|key| (key.name.clone(), key.value.clone())).collect())
    }

    #[test]
    fn a_section_is_found_by_its_type_or_name() {
        assert_eq!(overridden(&["A/K=3"]).unwrap(), [("k".into(), "3".into())]);
        assert_eq!(overridden(&["b/k=x=y"]).unwrap(), [("k".into(), "x=y".into())]);
    }

    #[test]
    fn one_key_given_twice_keeps_both_for_the_schema_to_judge() {
        let keys = overridden(&["a/k=3", "a/k=4"]).unwrap();
        assert_eq!(keys, [("k".into(), "3".into()), ("k".into(), "4".into())]);
    }

    #[test]
    fn malformed_specifiers_are_refused() {
        assert_eq!(
            overridden(&["a/k"]).unwrap_err(),
            "invalid configuration specifier (in <command-line option>)"
        );
        assert!(overridden(&["a//k=1"]).unwrap_err().starts_with("'//' is not allowed"));
        assert!(
            overridden(&["c/k=1"]).unwrap_err().starts_with("not all command line options were consumed")
        );
    }
}
