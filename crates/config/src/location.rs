//! Where a text is: a path, or a `file:` URL, and how one leads to the next by `%include`.

use std::path::{Component, Path, PathBuf};

/// The file that a path or URL names, seen from a directory.
pub(crate) fn resolve(text: &str, directory: &Path) -> Result<PathBuf, String> {
    let path = match scheme(text) {
        None => PathBuf::from(text),
        Some(scheme) if scheme.eq_ignore_ascii_case("file") => file_path(&text[scheme.len() + 1..])?,
        Some(scheme) => {
            return Err(format!("'{scheme}:' URLs can't be read, only files: {text}"));
        }
    };
    Ok(normal(&directory.join(path)))
}

/// The URL of an absolute path, with everything unusual percent-encoded.
pub fn file_url(path: &Path) -> String {
    let mut url = "file://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'_' | b'.' | b'-' | b'~' => {
                url.push(char::from(*byte));
            }
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    url
}

/// The scheme before the first `:`, if there is one that can be a scheme.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let letters = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    (letters && scheme.len() > 1 && scheme.starts_with(|c: char| c.is_ascii_alphabetic())).then_some(scheme)
}

/// The path in a `file:` URL, after the colon.
fn file_path(rest: &str) -> Result<PathBuf, String> {
    let path = rest.strip_prefix("//localhost").or_else(|| rest.strip_prefix("//")).unwrap_or(rest);
    if rest.starts_with("//") && !path.starts_with('/') {
        return Err(format!("the file is on another machine: file:{rest}"));
    }
    if path.contains('#') {
        return Err("fragment identifiers are not supported".to_owned());
    }
    let bytes = percent_decoded(path.as_bytes());
    String::from_utf8(bytes).map(PathBuf::from).map_err(|_| format!("not a file name: file:{rest}"))
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|hex| *first == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        let code = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(code) => {
                out.push(code);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// The path without `.` and without `name/..`, by its letters only.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if out.file_name().is_some() => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> String {
        resolve(text, Path::new("/etc/zeo")).unwrap().display().to_string()
    }

    #[test]
    fn paths_are_relative_to_the_directory() {
        assert_eq!(resolved("a.conf"), "/etc/zeo/a.conf");
        assert_eq!(resolved("../b c.conf"), "/etc/b c.conf");
        assert_eq!(resolved("/x/./y"), "/x/y");
    }

    #[test]
    fn file_urls_are_decoded_and_others_refused() {
        assert_eq!(resolved("file:///a%20b"), "/a b");
        assert_eq!(resolved("FILE:/a"), "/a");
        assert_eq!(resolved("file://localhost/a"), "/a");
        assert_eq!(resolved("file:///a%zz%4"), "/a%zz%4");
        assert!(resolve("http://example.com/a", Path::new("/")).unwrap_err().contains("'http:'"));
        assert!(resolve("file://far/a", Path::new("/")).unwrap_err().contains("another machine"));
    }

    #[test]
    fn a_url_encodes_what_is_unusual() {
        assert_eq!(file_url(Path::new("/a b/ü")), "file:///a%20b/%C3%BC");
    }
}
