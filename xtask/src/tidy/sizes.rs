//! Nothing gets too long to read or too big to clone.

use super::Finding;

/// Files above this are not for git.
const BYTES_MAX: usize = 512 * 1024;
/// A file of code above this has more than one noun in it.
const LINES_MAX: usize = 800;

/// Looks at the size of one file.
pub(super) fn of_bytes(name: &str, bytes: usize) -> Option<Finding> {
    (bytes > BYTES_MAX).then(|| {
        Finding::new(
            name,
            0,
            format!("{bytes} bytes, more than {BYTES_MAX}: generate it, or fetch it in a test"),
        )
    })
}

/// Looks at the length of one file of code.
pub(super) fn of_lines(name: &str, text: &str) -> Option<Finding> {
    // The harness follows the suites of ZEO and ZODB, which are long lists.
    if name.starts_with("conformance/") || ![".rs", ".py", ".sh"].iter().any(|end| name.ends_with(end)) {
        return None;
    }
    let lines = text.lines().count();
    (lines > LINES_MAX).then(|| {
        Finding::new(
            name,
            0,
            format!("{lines} lines, more than {LINES_MAX}: a second noun wants a second file"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_itself_is_still_fine() {
        assert_eq!(of_bytes("a", BYTES_MAX), None);
        assert!(of_bytes("a", BYTES_MAX + 1).is_some());
        assert_eq!(of_lines("a.rs", &"x\n".repeat(LINES_MAX)), None);
        assert!(of_lines("a.rs", &"x\n".repeat(LINES_MAX + 1)).is_some());
    }

    #[test]
    fn documents_may_be_long() {
        assert_eq!(of_lines("docs/protocol.md", &"x\n".repeat(LINES_MAX + 1)), None);
    }
}
