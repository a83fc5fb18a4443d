//! What the parser makes of texts, well-formed and not.

use super::*;
use std::{cell::RefCell, io};

/// Files and variables in memory.
#[derive(Default)]
struct World {
    files: HashMap<PathBuf, String>,
    variables: HashMap<String, String>,
    reads: RefCell<usize>,
}

impl World {
    fn with(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        Self { files, variables: HashMap::from([("WHO".into(), "me".into())]), reads: RefCell::new(0) }
    }
}

impl Surroundings for World {
    fn read(&self, path: &Path, size_max: u64) -> io::Result<Vec<u8>> {
        *self.reads.borrow_mut() += 1;
        let text = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(text.bytes().take(size_max.try_into().unwrap()).collect())
    }
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
    fn is_directory(&self, _: &Path) -> bool {
        false
    }
    fn exists(&self, _: &Path) -> bool {
        false
    }
    fn working_directory(&self) -> PathBuf {
        PathBuf::from("/w")
    }
    fn home(&self, _: Option<&str>) -> Option<String> {
        None
    }
}

fn parsed(text: &str) -> Result<Document, String> {
    parse("file:///a.conf", text, &World::with(&[])).map_err(|error| error.to_string())
}

fn refused(text: &str) -> String {
    parsed(text).unwrap_err()
}

fn values(section: &Section) -> Vec<(&str, &str)> {
    section.keys.iter().map(|key| (key.name.as_str(), key.value.as_str())).collect()
}

#[test]
fn sections_nest_and_keep_their_order() {
    let text = "\u{feff}# zeo\r\nTop 1\n<A>\n  <B Main/>\n  key  x y # z \n</a>\n<b>\n</B>";
    let root = parsed(text).unwrap().root;
    assert_eq!(values(&root), [("top", "1")]);
    let kinds: Vec<_> = root.sections.iter().map(|section| section.kind.as_str()).collect();
    assert_eq!(kinds, ["a", "b"]);
    let a = &root.sections[0];
    assert_eq!(values(a), [("key", "x y # z")]);
    assert_eq!((a.position.line(), a.keys[0].position.line()), (Some(3), Some(5)));
    assert_eq!(a.sections[0].name.as_deref(), Some("main"));
}

#[test]
fn defines_and_the_environment_are_put_into_values_only() {
    let text = "%define Dir /data\n%define file $dir/Data.fs\npath ${FILE}\nwho $(WHO)\ncost 5$$\n<$dir/>";
    let root = parsed(text).unwrap().root;
    assert_eq!(values(&root), [("path", "/data/Data.fs"), ("who", "me"), ("cost", "5$")]);
    assert_eq!(root.sections[0].kind, "$dir");
}

#[test]
fn a_define_may_be_repeated_but_not_changed() {
    assert!(parsed("%define a b\n%define A b\n").is_ok());
    let message = "cannot redefine 'a' (line 2, in file:///a.conf)\n    %define a c";
    assert_eq!(refused("%define a b\n%define a c\n"), message);
    assert!(refused("%define a-b c").starts_with("not a substitution legal name: 'a-b' (line 1"));
}

#[test]
fn imports_are_told_to_the_caller() {
    let document = parsed("\n%import relstorage\n").unwrap();
    assert_eq!(document.imports[0].package, "relstorage");
    assert_eq!(document.imports[0].position.line(), Some(2));
}

#[test]
fn errors_quote_the_line_and_say_where_it_is() {
    let unclosed =
        "unclosed sections not allowed (line 2, in file:///a.conf)\n    k v\n<zeo> of line 1 is open.";
    assert_eq!(refused("<zeo>\nk v"), unclosed);
    let unbalanced = "unbalanced section end (line 2, in file:///a.conf)\n    </b>\n<a> of line 1 is open.";
    assert_eq!(refused("<a>\n</b>"), unbalanced);
    assert!(refused("</a>").starts_with("unexpected section end (line 1, in "));
    assert!(refused("<a").starts_with("malformed section start (line 1, in "));
    assert!(refused("%inclde x").contains("unknown directive: 'inclde'"));
    assert!(refused("%inclde x").ends_with("Did you mean 'include'?"));
    assert!(refused("%define").starts_with("missing argument to %define directive"));
    assert!(refused("-a b").starts_with("value did not match regular expression: '-a' (line 1"));
    assert!(refused("a $b").starts_with("no replacement for 'b' (line 1, in file:///a.conf)"));
    let reused = "section names must not be re-used within the same container:'1'";
    assert!(refused("<a 1/>\n<b 1/>").starts_with(reused));
    assert!(parsed("<a 1/>\n<b>\n<a 1/>\n</b>").is_ok());
}

#[test]
fn an_included_file_is_found_beside_the_one_that_includes_it() {
    let files = [
        ("/etc/zeo/zeo.conf", "%define d 7\n<a>\n%include sub/a.conf\nlast 1\n</a>\n"),
        ("/etc/zeo/sub/a.conf", "first $d\n%include b.conf\n%define e 8\n"),
        ("/etc/zeo/sub/b.conf", "<b/>\n"),
    ];
    let root = load("/etc/zeo/zeo.conf", &World::with(&files)).unwrap().root;
    assert_eq!(values(&root.sections[0]), [("first", "7"), ("last", "1")]);
    assert_eq!(root.sections[0].sections[0].position.url(), "file:///etc/zeo/sub/b.conf");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let world = World::with(&[("/w/a", "\n%include b\n")]);
    let message = load("no.conf", &world).unwrap_err().to_string();
    assert!(message.starts_with("error opening file /w/no.conf: "), "{message}");
    let message = load("a", &world).unwrap_err().to_string();
    assert!(message.starts_with("error opening file /w/b: "), "{message}");
    assert!(message.contains("(line 2, in file:///w/a)"), "{message}");
}

#[test]
fn includes_in_a_circle_are_refused() {
    let world = World::with(&[("/w/a", "%include b"), ("/w/b", "%include ../w/a")]);
    let message = load("a", &world).unwrap_err().to_string();
    assert!(message.starts_with("the file includes itself: /w/a (line 1, in file:///w/b)"), "{message}");
}

#[test]
fn an_included_file_may_not_close_what_it_did_not_open() {
    let world = World::with(&[("/w/a", "<s>\n%include b\n</s>"), ("/w/b", "</s>\n")]);
    let error = load("a", &world).unwrap_err();
    assert_eq!((error.message(), error.url()), ("unexpected section end", Some("file:///w/b")));
}

#[test]
fn depth_is_bounded() {
    let message = refused(&"<a>\n".repeat(100_000));
    assert!(message.starts_with("sections are nested deeper than 32 (line 33"), "{message}");
    let files: Vec<_> = (0..50).map(|n| (format!("/w/{n}"), format!("%include {}", n + 1))).collect();
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let message = load("0", &World::with(&files)).unwrap_err().to_string();
    assert!(message.starts_with("includes are nested deeper than 32"), "{message}");
}

#[test]
fn includes_can_not_multiply_without_bound() {
    // Every file includes the next one sixteen times: 16^20 files, if nothing stops it.
    let files: Vec<_> =
        (0..20).map(|n| (format!("/w/{n}"), format!("%include {}\n", n + 1).repeat(16))).collect();
    let mut files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    files.push(("/w/20", ""));
    let world = World::with(&files);
    let message = load("0", &world).unwrap_err().to_string();
    assert!(message.starts_with(TOO_LARGE), "{message}");
    assert!(*world.reads.borrow() < 20_000);
}

#[test]
fn defines_can_not_multiply_without_bound() {
    let mut text = "%define a0 xxxxxxxxxxxxxxxx\n".to_owned();
    for n in 1..40 {
        text.push_str(&format!("%define a{n} $a{0}$a{0}\n", n - 1));
    }
    let message = refused(&text);
    assert!(message.starts_with("the value is longer than 65536 bytes"), "{message}");
}

#[test]
fn a_line_that_is_not_utf8_is_named() {
    struct Latin;
    impl Surroundings for Latin {
        fn read(&self, _: &Path, _: u64) -> io::Result<Vec<u8>> {
            Ok(b"a 1\nb \xe9\n".to_vec())
        }
        fn variable(&self, _: &str) -> Option<String> {
            None
        }
        fn is_directory(&self, _: &Path) -> bool {
            false
        }
        fn exists(&self, _: &Path) -> bool {
            false
        }
        fn working_directory(&self) -> PathBuf {
            "/".into()
        }
        fn home(&self, _: Option<&str>) -> Option<String> {
            None
        }
    }
    let message = load("/x", &Latin).unwrap_err().to_string();
    assert_eq!(message, "the file /x is not UTF-8 text: see its line 2");
}
