//! No text makes the parser or a schema panic, and what the parser accepts has its sections in balance.

use proptest::prelude::*;
use zeolith_config::{
    DataType, Document, KeyRule, Occurs, Section, SectionRule, SectionType, System, Value, check, parse,
};

static INNER: SectionType = SectionType {
    name: "a",
    keys: &[
        KeyRule::optional("k", DataType::ByteSize),
        KeyRule::optional("b", DataType::Boolean),
        KeyRule::optional("s", DataType::SocketBindingAddress).repeated(),
    ],
    sections: &[SectionRule { name: "a", types: &[&INNER], occurs: Occurs::Any }],
    refusal: None,
};

fn lines() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "<a>",
        "</a>",
        "<a x>",
        "<A/>",
        "<a",
        "%define",
        "%define n 1",
        "%define m $n$n",
        "%import p",
        "k 1KB",
        "k $n",
        "k ${N}",
        "k $(HOME)",
        "b yes",
        "b maybe",
        "s [::1]:80",
        "s a:b",
        "# c",
        "",
        "$",
        "k $",
        "<",
        ">",
        "%",
        "</",
        "<>",
        "</>",
        "%include /nowhere",
        "ü 1",
        "\u{feff}",
        "k\u{1c}2",
    ]);
    prop::collection::vec(prop_oneof![8 => word.prop_map(str::to_owned), 1 => any::<String>()], 0..40)
        .prop_map(|lines| lines.join("\n"))
}

fn count(section: &Section) -> usize {
    section.sections.iter().map(|inner| 1 + count(inner)).sum()
}

proptest! {
    #[test]
    fn any_lines_are_accepted_or_refused(text in lines()) {
        if let Ok(document) = parse("file:///x", &text, &System) {
            let Document { root, .. } = &document;
            let starts = text.split('\n').filter(|line| line.trim().starts_with('<'));
            let starts = starts.filter(|line| !line.trim().starts_with("</")).count();
            prop_assert_eq!(count(root), starts);
            if let Err(error) = check(&document, &INNER, &System) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn any_bytes_are_accepted_or_refused(text in any::<String>()) {
        if let Err(error) = parse("file:///x", &text, &System) {
            prop_assert!(error.to_string().contains("file:///x"));
        }
    }

    #[test]
    fn any_value_is_converted_or_refused(text in "\\PC*") {
        let kinds = [
            DataType::Boolean, DataType::Integer, DataType::Float, DataType::ByteSize, DataType::TimeInterval,
            DataType::ExistingDirpath, DataType::DottedName, DataType::SocketBindingAddress,
            DataType::InetAddress, DataType::PortNumber, DataType::Words,
        ];
        for kind in kinds {
            if let Err(message) = kind.convert(&text, &System) {
                prop_assert!(!message.is_empty());
            }
        }
    }

    #[test]
    fn every_integer_is_read_back(number in any::<i64>()) {
        prop_assert_eq!(DataType::Integer.convert(&number.to_string(), &System), Ok(Value::Integer(number)));
    }
}
