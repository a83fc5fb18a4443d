//! `%import`: which Python packages are known, and why others are refused.
//!
//! A package is imported for the types of sections that come with it. The types of the packages known here are
//! in the schema, and may be used where the reference lets them be used: below the line that imports them.

use zeolith_config::{ConfigError, Document, Import, Section, quoted};

/// Refuses packages that are not known, and sections of known ones that are not imported.
pub(super) fn check(document: &Document) -> Result<(), ConfigError> {
    if let Some(error) = document.imports.iter().find_map(refusal) {
        return Err(error);
    }
    let mut waiting: Vec<&Section> = vec![&document.root];
    while let Some(section) = waiting.pop() {
        if ZLIB_SECTIONS.contains(&section.kind.as_str()) && !is_imported(ZLIB, section, &document.imports) {
            let message = format!("unknown type name: {}", quoted(&section.kind));
            let hint = format!("<{}> needs the line '%import {ZLIB}' above it.", section.kind);
            return Err(ConfigError::at(&section.position, message).with_hint(Some(hint)));
        }
        waiting.extend(section.sections.iter().rev());
    }
    Ok(())
}

fn is_imported(package: &str, section: &Section, imports: &[Import]) -> bool {
    let (place, line) = (section.position.url(), section.position.line());
    let comes_later = |import: &Import| import.position.url() == place && import.position.line() > line;
    imports.iter().any(|import| import.package == package && !comes_later(import))
}

fn refusal(import: &Import) -> Option<ConfigError> {
    let package = import.package.as_str();
    if package == ZLIB || ALREADY_THERE.contains(&package) {
        return None;
    }
    let top = package.split('.').next().unwrap_or(package).to_lowercase();
    let known = INSTEAD.iter().find(|(name, _)| *name == package.to_lowercase() || *name == top);
    let instead = known.map_or(OTHERS, |(_, instead)| instead);
    let message = format!("%import {package} is not supported: {instead}");
    Some(ConfigError::at(&import.position, message))
}

const ZLIB: &str = "zc.zlibstorage";
const ZLIB_SECTIONS: [&str; 2] = ["zlibstorage", "serverzlibstorage"];

/// Packages whose sections a server's configuration has anyway; importing them changes nothing.
const ALREADY_THERE: [&str; 4] = ["ZODB", "zdaemon", "ZConfig.components.basic", "ZConfig.components.logger"];

/// What to do instead of importing a package, by its whole name or its first part.
const INSTEAD: [(&str, &str); 6] = [
    (
        "zeo",
        "it defines a second <ssl>, so ZEO's own server refuses it too; a server's file needs no section of it, \
         and a client's file is not for a server",
    ),
    (
        "relstorage",
        "RelStorage keeps objects in an SQL database, which this server can't reach; its clients use that database \
         without a ZEO server",
    ),
    ("tempstorage", "use <mappingstorage>, which forgets everything at its end as well"),
    (
        "zc.beforestorage",
        "a database can't be served as of an earlier time; make a file of that time by 'repozo --recover --date', \
         and serve it by <filestorage>",
    ),
    ("neo", "NEO has servers of its own, which its clients use without a ZEO server"),
    ("newt", "Newt DB keeps objects in PostgreSQL, which its clients use without a ZEO server"),
];

const OTHERS: &str = "it loads Python code, which this server can't run; leave out the line and the sections that \
                      come with it, or keep this database on the Python server";

#[cfg(test)]
mod tests {
    use crate::settings::{StorageKind, ZlibSettings, from_document};
    use zeolith_config::System;

    fn loaded(text: &str) -> Result<Vec<StorageKind>, String> {
        let text = format!("<zeo>\naddress 1\n</zeo>\n{text}");
        let document = zeolith_config::parse("file:///zeo.conf", &text, &System).unwrap();
        let settings = from_document(&document).map_err(|error| error.to_string())?;
        Ok(settings.storages.into_iter().map(|storage| storage.kind).collect())
    }

    const MEMORY: &str = "<mappingstorage>\n</mappingstorage>\n";

    #[test]
    fn both_storages_of_zlibstorage_are_understood() {
        let import = "%import zc.zlibstorage\n";
        let zlib = |compress, clients_compress| {
            let base = Box::new(StorageKind::Memory("Mapping Storage".into()));
            vec![StorageKind::Zlib(ZlibSettings { compress, clients_compress, base })]
        };
        let section = |kind: &str, key: &str| format!("{import}<{kind}>\n{key}\n{MEMORY}</{kind}>");
        assert_eq!(loaded(&section("zlibstorage", "")), Ok(zlib(true, false)));
        assert_eq!(loaded(&section("zlibstorage", "compress no")), Ok(zlib(false, false)));
        assert_eq!(loaded(&section("serverzlibstorage", "")), Ok(zlib(true, true)));
        let described = zlib(true, true)[0].to_string();
        assert_eq!(described, "ServerZlibStorage (MappingStorage Mapping Storage)");
        let twice = format!("{import}{}", section("zlibstorage", ""));
        assert_eq!(loaded(&twice), Ok(zlib(true, false)));
    }

    #[test]
    fn a_zlibstorage_has_one_storage_inside() {
        let zlib = |inside: &str| {
            loaded(&format!("%import zc.zlibstorage\n<zlibstorage>\n{inside}</zlibstorage>")).unwrap_err()
        };
        assert!(zlib("").starts_with("no values for section type 'zodb.storage'; 1 required (line"));
        assert!(zlib(&MEMORY.repeat(2)).starts_with("too many instances of 'zodb.storage' section (line 8,"));
    }

    #[test]
    fn a_section_is_known_below_the_line_that_imports_it() {
        let zlib = format!("<demostorage>\n<zlibstorage>\n{MEMORY}</zlibstorage>\n</demostorage>\n");
        for text in [zlib.clone(), format!("{zlib}%import zc.zlibstorage")] {
            let error = loaded(&text).unwrap_err();
            assert!(error.starts_with("unknown type name: 'zlibstorage' (line 5,"), "{error}");
            assert!(error.ends_with("<zlibstorage> needs the line '%import zc.zlibstorage' above it."));
        }
        assert!(loaded(&format!("%import zc.zlibstorage\n{zlib}")).is_ok());
    }

    #[test]
    fn packages_that_are_there_anyway_may_be_imported() {
        for package in super::ALREADY_THERE {
            assert!(loaded(&format!("%import {package}\n{MEMORY}")).is_ok(), "{package}");
        }
    }

    #[test]
    fn other_packages_are_refused_by_name_with_what_to_do_instead() {
        let refused = |package: &str| loaded(&format!("%import {package}\n{MEMORY}")).unwrap_err();
        for (package, instead) in [
            ("ZEO", "ZEO's own server refuses it too"),
            ("relstorage", "without a ZEO server"),
            ("RelStorage", "without a ZEO server"),
            ("tempstorage", "use <mappingstorage>"),
            ("zc.beforestorage", "repozo --recover --date"),
            ("my.package", "keep this database on the Python server"),
        ] {
            let error = refused(package);
            assert!(error.starts_with(&format!("%import {package} is not supported: ")), "{error}");
            assert!(error.contains(instead), "{error}");
            assert!(
                error.contains(&format!("(line 4, in file:///zeo.conf)\n    %import {package}")),
                "{error}"
            );
        }
    }
}
