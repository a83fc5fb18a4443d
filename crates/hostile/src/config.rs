//! What stands in a configuration: any text, with includes that lead back to it.

use std::{
    io,
    path::{Path, PathBuf},
};
use zeolith_config::{
    DataType, KeyRule, Occurs, Presence, SectionRule, SectionType, Surroundings, check, load,
};

/// A text is a document or an error that says where; a document fits a schema or there is an error that says why.
pub(crate) fn config(input: &[u8]) {
    let world = World { text: input };
    match load(WHERE, &world) {
        Err(error) => assert!(error.to_string().contains('/'), "an error names a file: {error}"),
        Ok(mut document) => {
            if let Err(error) = check(&document, &TOP, &world) {
                assert!(!error.to_string().is_empty(), "a refusal says why");
            }
            let text = String::from_utf8_lossy(input);
            let overrides: Vec<String> = text.lines().take(OVERRIDES_MAX).map(str::to_owned).collect();
            let _ = document.apply_overrides(&overrides);
        }
    }
}

/// Every file has the same content, and every variable the same value.
struct World<'a> {
    text: &'a [u8],
}

impl Surroundings for World<'_> {
    fn read(&self, path: &Path, size_max: u64) -> io::Result<Vec<u8>> {
        if path.starts_with("/missing") {
            return Err(io::ErrorKind::NotFound.into());
        }
        let len = self.text.len().min(usize::try_from(size_max).unwrap_or(usize::MAX));
        Ok(self.text[..len].to_vec())
    }

    fn variable(&self, name: &str) -> Option<String> {
        name.starts_with(|c: char| c.is_uppercase()).then(|| "value of the environment".to_owned())
    }

    fn is_directory(&self, path: &Path) -> bool {
        !path.starts_with("/missing")
    }

    fn exists(&self, path: &Path) -> bool {
        !path.starts_with("/missing")
    }

    fn working_directory(&self) -> PathBuf {
        "/etc".into()
    }

    fn home(&self, user: Option<&str>) -> Option<String> {
        user.is_none().then(|| "/srv/zeo".to_owned())
    }
}

/// A server's configuration in small, with a key of every data type.
static TOP: SectionType = SectionType {
    name: "",
    keys: &[],
    sections: &[
        SectionRule { name: "zeo", types: &[&ZEO], occurs: Occurs::Once },
        SectionRule { name: "zodb.storage", types: &[&FILESTORAGE, &DEMOSTORAGE], occurs: Occurs::Some },
        SectionRule { name: "eventlog", types: &[&EVENTLOG], occurs: Occurs::Optional },
    ],
    refusal: None,
};

static ZEO: SectionType = SectionType {
    name: "zeo",
    keys: &[
        KeyRule::required("address", DataType::SocketBindingAddress),
        KeyRule::optional("monitor-address", DataType::SocketConnectionAddress).repeated(),
        KeyRule::default("transaction-timeout", DataType::TimeInterval, "1h"),
        KeyRule::optional("invalidation-queue-size", DataType::Integer),
        KeyRule::optional("invalidation-age", DataType::Float),
        KeyRule::optional("port", DataType::PortNumber),
        KeyRule::optional("smtp-server", DataType::InetAddress),
        KeyRule::optional("program", DataType::Words).refused("it is not for this program"),
        KeyRule::optional("msgpack", DataType::Boolean),
    ],
    sections: &[],
    refusal: None,
};

static FILESTORAGE: SectionType = SectionType {
    name: "filestorage",
    keys: &[
        KeyRule::required("path", DataType::ExistingDirpath),
        KeyRule::optional("blob-dir", DataType::ExistingDirectory),
        KeyRule::optional("python", DataType::ExistingPath),
        KeyRule::optional("packer", DataType::DottedName),
        KeyRule {
            name: "quota",
            kind: DataType::ByteSize,
            presence: Presence::Optional,
            multi: false,
            refusal: None,
        },
    ],
    sections: &[],
    refusal: None,
};

static DEMOSTORAGE: SectionType = SectionType {
    name: "demostorage",
    keys: &[KeyRule::optional("name", DataType::Text)],
    sections: &[SectionRule {
        name: "zodb.storage",
        types: &[&FILESTORAGE, &DEMOSTORAGE],
        occurs: Occurs::Any,
    }],
    refusal: None,
};

static EVENTLOG: SectionType =
    SectionType { name: "eventlog", keys: &[], sections: &[], refusal: Some("it logs nothing") };

const WHERE: &str = "/etc/zeo.conf";
const OVERRIDES_MAX: usize = 20;
