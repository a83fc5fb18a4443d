//! Every file of code opens with what it is.

use super::Finding;

/// Looks at the first lines of one file.
pub(super) fn check(name: &str, text: &str) -> Option<Finding> {
    let (ok, wanted) = if name.ends_with(".rs") {
        (text.starts_with("//! "), "a `//!` head")
    } else if name.ends_with("__init__.py") && text.trim().is_empty() {
        return None;
    } else if name.ends_with(".py") {
        (python(text), "a docstring or a comment")
    } else if name.ends_with("Cargo.toml") && name != "Cargo.toml" {
        // Tidy looks at the description with the dependencies.
        return None;
    } else if name.ends_with(".toml") || is_script(name, text) {
        (comment(text), "a comment")
    } else {
        return None;
    };
    (!ok).then(|| Finding::new(name, 1, format!("opens without {wanted} that says what it is")))
}

fn is_script(name: &str, text: &str) -> bool {
    name.ends_with(".sh") || text.starts_with("#!")
}

fn after_shebang(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip(usize::from(text.starts_with("#!")))
}

fn comment(text: &str) -> bool {
    after_shebang(text).next().is_some_and(|line| line.starts_with("# ") && line.len() > 10)
}

fn python(text: &str) -> bool {
    let mut lines = after_shebang(text).filter(|line| !line.contains("-*- coding") && !line.is_empty());
    lines.next().is_some_and(|line| {
        let line = line.trim_start_matches(['r', 'u', 'R', 'U']);
        line.starts_with("\"\"\"") || line.starts_with("'''") || (line.starts_with("# ") && line.len() > 10)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_fine(name: &str, text: &str) -> bool {
        check(name, text).is_none()
    }

    #[test]
    fn rust_needs_a_head_of_its_own_kind() {
        assert!(is_fine("a.rs", "//! Cuts a stream into frames.\n"));
        assert!(!is_fine("a.rs", "// Cuts a stream into frames.\n"));
        assert!(!is_fine("a.rs", "use std::io;\n//! Late.\n"));
    }

    #[test]
    fn python_may_open_with_a_docstring_or_a_comment_after_its_shebang() {
        assert!(is_fine("a.py", "#!/usr/bin/env python3\n\"\"\"Runs the matrix.\"\"\"\n"));
        assert!(is_fine("a.py", "# Runs the matrix of clients.\nimport os\n"));
        assert!(!is_fine("a.py", "import os\n"));
        assert!(is_fine("tests/__init__.py", ""));
    }

    #[test]
    fn scripts_are_known_by_their_shebang_too() {
        assert!(!is_fine(".ci/run", "#!/usr/bin/env bash\nset -e\n"));
        assert!(is_fine(".ci/run", "#!/usr/bin/env bash\n# What CI runs.\nset -e\n"));
        assert!(!is_fine("deny.toml", "[licenses]\n"));
        assert!(is_fine("crates/wire/Cargo.toml", "[package]\n"));
        assert!(is_fine("README.md", "anything"));
    }
}
