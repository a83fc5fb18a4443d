//! Object ids and transaction ids: eight bytes each, alike on the wire, and never to be mixed up.

use std::fmt;

macro_rules! eight_byte_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Eight zero bytes: the root object as an oid, "nothing yet" as a tid.
            pub const ZERO: Self = Self(0);

            /// The id with this number.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The id as a number; ids compare like their numbers.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The id from its big-endian bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 8]) -> Self {
                Self(u64::from_be_bytes(bytes))
            }

            /// The id as big-endian bytes, as it stands on the wire and on disk.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 8] {
                self.0.to_be_bytes()
            }
        }

        /// `0x` and the bytes in hex without leading zero bytes, as `ZODB.utils.oid_repr` writes it.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let bytes = self.to_bytes();
                let zeros = bytes.iter().take(7).take_while(|byte| **byte == 0).count();
                f.write_str("0x")?;
                bytes.iter().skip(zeros).try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl From<[u8; 8]> for $name {
            fn from(bytes: [u8; 8]) -> Self {
                Self::from_bytes(bytes)
            }
        }
    };
}

eight_byte_id! {
    /// An object id. Oid 0 is the root object.
    Oid
}

eight_byte_id! {
    /// A transaction id, which is also the serial of every revision the transaction wrote.
    ///
    /// The high half counts minutes, the low half is a fraction of a minute; see [`crate::Timestamp`].
    Tid
}

impl Tid {
    /// The largest tid that ZODB uses as "no upper bound" (`ZODB.utils.maxtid`).
    pub const MAX: Self = Self(0x7fff_ffff_ffff_ffff);

    /// Sixteen lower-case hex digits, as `server_status` reports a tid.
    #[must_use]
    pub fn to_hex(self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oid_prints_as_zodb_prints_it() {
        assert_eq!(Oid::ZERO.to_string(), "0x00");
        assert_eq!(Oid::new(0x123).to_string(), "0x0123");
        assert_eq!(Tid::new(u64::MAX).to_string(), "0xffffffffffffffff");
    }

    #[test]
    fn ids_compare_like_their_bytes() {
        let low = Tid::new(0x00ff);
        let high = Tid::new(0x0100);
        assert!(low < high);
        assert!(low.to_bytes() < high.to_bytes());
    }
}
