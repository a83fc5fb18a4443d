//! Which classes are known, by the names that records have for them.

use crate::column::{Columns, Kind};

/// A class that is resolved here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NativeClass {
    /// A bucket or set, or a tree of them.
    Collection { columns: Columns, is_tree: bool },
    /// `BTrees.Length.Length`
    Length,
    /// `zope.minmax.Maximum`
    Maximum,
    /// `zope.minmax.Minimum`
    Minimum,
}

impl NativeClass {
    /// The class of this name.
    pub(crate) fn find(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("BTrees.Length", "Length") => return Some(Self::Length),
            ("zope.minmax._minmax" | "zope.minmax", "Maximum") => return Some(Self::Maximum),
            ("zope.minmax._minmax" | "zope.minmax", "Minimum") => return Some(Self::Minimum),
            _ => {}
        }
        let family = module.strip_prefix("BTrees.")?.strip_suffix("BTree")?;
        let (keys, values) = columns(family)?;
        let (values, is_tree) = match name.strip_prefix(family)? {
            "Bucket" => (Some(values), false),
            "BTree" => (Some(values), true),
            "Set" => (None, false),
            "TreeSet" => (None, true),
            _ => return None,
        };
        Some(Self::Collection { columns: Columns { keys, values }, is_tree })
    }
}

/// What the keys and values of a family are.
fn columns(family: &str) -> Option<(Kind, Kind)> {
    if family == "fs" {
        return Some((Kind::Bytes(2), Kind::Bytes(6)));
    }
    if !FAMILIES.contains(&family) {
        return None;
    }
    let kind = |letter| match letter {
        b'O' => Some(Kind::Object),
        b'I' => Some(Kind::I32),
        b'U' => Some(Kind::U32),
        b'L' => Some(Kind::I64),
        b'Q' => Some(Kind::U64),
        b'F' => Some(Kind::F32),
        _ => None,
    };
    let [keys, values] = *family.as_bytes() else { return None };
    Some((kind(keys)?, kind(values)?))
}

/// The families that BTrees ships, beside `fs`.
const FAMILIES: [&str; 21] = [
    "OO", "OI", "OL", "OU", "OQ", "IO", "II", "IF", "IU", "LO", "LL", "LF", "LQ", "UO", "UU", "UF", "UI",
    "QO", "QQ", "QF", "QL",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_told_by_its_letters() {
        let expected = Columns { keys: Kind::I64, values: Some(Kind::F32) };
        let found = NativeClass::find("BTrees.LFBTree", "LFBTree");
        assert_eq!(found, Some(NativeClass::Collection { columns: expected, is_tree: true }));
        let expected = Columns { keys: Kind::Bytes(2), values: None };
        let found = NativeClass::find("BTrees.fsBTree", "fsSet");
        assert_eq!(found, Some(NativeClass::Collection { columns: expected, is_tree: false }));
    }

    #[test]
    fn what_only_looks_like_btrees_is_not_known() {
        for (module, name) in [
            ("BTrees.OOBTree", "IOBucket"),
            ("BTrees.FOBTree", "FOBucket"),
            ("BTrees.IIBTree", "IITreeIterator"),
            ("my.BTrees.OOBTree", "OOBTree"),
            ("BTrees.BTree", "BTree"),
            ("BTrees.Length", "length"),
        ] {
            assert_eq!(NativeClass::find(module, name), None, "{module}.{name}");
        }
    }
}
