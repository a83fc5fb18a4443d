//! How a blob directory names the places of objects and revisions.

use std::path::{Path, PathBuf};
use zeolith_types::{Oid, Tid};

/// Where the blobs of an object are. Written into the file `.layout` of a blob directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Eight levels of directories, one for each byte of the oid.
    Bushy,
    /// One directory for each object, all side by side; of old directories only.
    Lawn,
}

impl Layout {
    /// The layout with this name, if it is one that a server has.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "bushy" => Some(Self::Bushy),
            "lawn" => Some(Self::Lawn),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bushy => "bushy",
            Self::Lawn => "lawn",
        }
    }

    /// Where the blobs of an object are, seen from the blob directory.
    #[must_use]
    pub fn place_of(self, oid: Oid) -> PathBuf {
        match self {
            Self::Bushy => oid.to_bytes().iter().map(|byte| format!("0x{byte:02x}")).collect(),
            Self::Lawn => PathBuf::from(oid.to_string()),
        }
    }

    /// The object whose blobs are at `place`, which is seen from the blob directory; the inverse of
    /// [`Self::place_of`].
    #[must_use]
    pub fn oid_of(self, place: &Path) -> Option<Oid> {
        let mut number = 0_u64;
        for name in place {
            let digits = name.to_str()?.strip_prefix("0x")?;
            number = match self {
                Self::Bushy => number.checked_mul(0x100)? | u64::from_str_radix(digits, 16).ok()?,
                Self::Lawn => u64::from_str_radix(digits, 16).ok()?,
            };
        }
        let oid = Oid::new(number);
        // Only the one name that is written is one, or the same blob would be found twice.
        (self.place_of(oid) == place).then_some(oid)
    }

    /// How many directories deep the places of objects are.
    pub(crate) const fn depth(self) -> usize {
        match self {
            Self::Bushy => 8,
            Self::Lawn => 1,
        }
    }
}

/// The name of the blob of a revision.
#[must_use]
pub(crate) fn blob_name(tid: Tid) -> String {
    format!("{tid}{SUFFIX}")
}

/// The revision whose blob has this name; the inverse of [`blob_name`].
#[must_use]
pub(crate) fn tid_of(name: &str) -> Option<Tid> {
    let digits = name.strip_suffix(SUFFIX)?.strip_prefix("0x")?;
    let tid = Tid::new(u64::from_str_radix(digits, 16).ok()?);
    (blob_name(tid) == name).then_some(tid)
}

const SUFFIX: &str = ".blob";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_are_those_of_the_reference() {
        let oid = Oid::new(0x0123_4567_89ab_cdef);
        let bushy = "0x01/0x23/0x45/0x67/0x89/0xab/0xcd/0xef";
        assert_eq!(Layout::Bushy.place_of(oid), Path::new(bushy));
        assert_eq!(Layout::Lawn.place_of(oid), Path::new("0x0123456789abcdef"));
        assert_eq!(Layout::Lawn.place_of(Oid::ZERO), Path::new("0x00"));
        assert_eq!(blob_name(Tid::new(0x03d0_b6a2_1c2d_3e4f)), "0x03d0b6a21c2d3e4f.blob");
    }

    #[test]
    fn what_looks_nearly_like_a_place_is_none() {
        for place in ["", "0x", "0x1", "0x001", "1", "0x0g", "tmp", "0X01", "0x+1", "0x01/0x02"] {
            assert_eq!(Layout::Lawn.oid_of(Path::new(place)), None, "{place}");
        }
        let seven = "0x00/0x00/0x00/0x00/0x00/0x00/0x01";
        for place in
            ["", seven, &format!("{seven}/0x1"), &format!("{seven}/0x001"), &format!("0x00/{seven}/0x01")]
        {
            assert_eq!(Layout::Bushy.oid_of(Path::new(place)), None, "{place}");
        }
        for name in ["0x01", "01.blob", "0x1.blob", "0x0001.blob", ".blob", "0x01.blob.tmp", "0x01.tmp-"] {
            assert_eq!(tid_of(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_place_leads_back_to_its_object(number: u64) {
            let oid = Oid::new(number);
            for layout in [Layout::Bushy, Layout::Lawn] {
                prop_assert_eq!(layout.oid_of(&layout.place_of(oid)), Some(oid));
                prop_assert_eq!(layout.place_of(oid).iter().count(), layout.depth());
                prop_assert_eq!(Layout::from_name(layout.name()), Some(layout));
            }
            prop_assert_eq!(tid_of(&blob_name(Tid::new(number))), Some(Tid::new(number)));
        }

        #[test]
        fn no_name_is_taken_for_two(text in "(0x)?[0-9a-fA-F+./ ]{0,20}(\\.blob)?") {
            for layout in [Layout::Bushy, Layout::Lawn] {
                if let Some(oid) = layout.oid_of(Path::new(&text)) {
                    prop_assert_eq!(layout.place_of(oid), PathBuf::from(&text));
                }
            }
            if let Some(tid) = tid_of(&text) {
                prop_assert_eq!(blob_name(tid), text);
            }
        }
    }
}
