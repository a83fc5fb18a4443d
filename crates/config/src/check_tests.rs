//! What a schema accepts and refuses.

use super::*;
use crate::{DataType, parse, surroundings::System};

static STORAGE: SectionType = SectionType {
    name: "filestorage",
    keys: &[
        KeyRule::required("path", DataType::Text),
        KeyRule::default("pack-gc", DataType::Boolean, "true"),
        KeyRule::optional("packer", DataType::Text).refused("packers are not supported"),
        KeyRule::optional("server", DataType::SocketConnectionAddress).repeated(),
    ],
    sections: &[],
    refusal: None,
};

static DEMO: SectionType = SectionType {
    name: "demostorage",
    keys: &[],
    sections: &[SectionRule { name: "storage", types: &[&STORAGE, &DEMO], occurs: Occurs::Any }],
    refusal: None,
};

static OLD: SectionType =
    SectionType { name: "old", keys: &[], sections: &[], refusal: Some("old is not supported any more") };

static TOP: SectionType = SectionType {
    name: "",
    keys: &[KeyRule::optional("limit", DataType::Integer)],
    sections: &[
        SectionRule { name: "storage", types: &[&STORAGE, &DEMO], occurs: Occurs::Some },
        SectionRule { name: "old", types: &[&OLD], occurs: Occurs::Optional },
    ],
    refusal: None,
};

fn checked(text: &str) -> Result<Checked, String> {
    let document = parse("file:///c", text, &System).unwrap();
    check(&document, &TOP, &System).map_err(|error| error.to_string())
}

fn refused(text: &str) -> String {
    checked(text).unwrap_err()
}

#[test]
fn values_come_out_typed_with_defaults() {
    let top = checked("limit 7\n<FileStorage A>\npath x\nserver :1\nserver 2\n</FileStorage>").unwrap();
    assert_eq!(top.integer("limit"), Some(7));
    let storage = top.sections_of("filestorage").next().unwrap();
    assert_eq!(storage.name.as_deref(), Some("a"));
    assert_eq!((storage.text("path"), storage.boolean("pack-gc")), (Some("x"), Some(true)));
    assert!(storage.is_given("path") && !storage.is_given("pack-gc"));
    assert_eq!(storage.text("packer"), None);
}

#[test]
fn unknown_names_are_refused_with_a_proposal() {
    let message = "'pth' is not a known key name (line 2, in file:///c)\n    pth x\nDid you mean 'path'?";
    assert_eq!(refused("<filestorage>\npth x\n</filestorage>"), message);
    let message = "unknown type name: 'filestore' (line 1, in file:///c)\n    <filestore/>\nDid you mean 'filestorage'?";
    assert_eq!(refused("<filestore/>"), message);
}

#[test]
fn a_section_in_the_wrong_place_is_refused() {
    let message = refused("<demostorage>\n<old/>\n</demostorage>");
    assert!(
        message.starts_with("no matching section defined for type='old', name='None' (line 2"),
        "{message}"
    );
}

#[test]
fn what_is_missing_is_named() {
    let message = refused("<filestorage>\n</filestorage>");
    assert!(message.starts_with("no values for 'path'; 1 required (line 1, in file:///c)"), "{message}");
    let message = refused("limit 1");
    assert_eq!(message, "not enough values for section type 'storage'; 0 found, 1 required (in file:///c)");
}

#[test]
fn what_is_there_too_often_is_named() {
    let message = refused("limit 1\nLimit 2");
    assert!(message.starts_with("'Limit' does not support multiple values (line 2"), "{message}");
}

#[test]
fn what_is_known_but_not_supported_says_so() {
    assert!(refused("<old>\nx y\n</old>").starts_with("old is not supported any more (line 1"));
    let packer = "<filestorage>\npath x\npacker y\n</filestorage>";
    assert!(refused(packer).starts_with("packers are not supported (line 3, in file:///c)\n    packer y"));
    assert!(checked("<filestorage>\npath x\npacker\n</filestorage>").is_ok());
}

#[test]
fn a_value_of_the_wrong_type_is_refused_at_its_line() {
    let message = refused("\nlimit many");
    let expected = "invalid literal for int() with base 10: 'many' (line 2, in file:///c)\n    limit many";
    assert_eq!(message, expected);
}
