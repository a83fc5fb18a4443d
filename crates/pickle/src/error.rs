//! Why a pickle was refused.

/// Why a pickle was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// It ends before its `STOP`, or an item is longer than what is left.
    #[error("the pickle is cut off at byte {at}")]
    CutOff {
        /// Where the input ran out.
        at: usize,
    },
    /// An opcode outside the grammar.
    #[error("opcode 0x{opcode:02x} at byte {at} is not allowed")]
    Opcode {
        /// The opcode.
        opcode: u8,
        /// Where it stands.
        at: usize,
    },
    /// A protocol that ZEO's peers do not use.
    #[error("pickle protocol {0} is not allowed")]
    Protocol(u8),
    /// A global that is not one of the harmless constructors.
    #[error("global {module}.{name} is not allowed")]
    Global {
        /// The module it names.
        module: String,
        /// The name in it.
        name: String,
    },
    /// A harmless constructor with arguments that make no plain value.
    #[error("{callable} can't be made from {what}")]
    Construct {
        /// What was called.
        callable: &'static str,
        /// What it was given.
        what: &'static str,
    },
    /// An opcode that does not fit what stands on the stack, or content that it can't have.
    #[error("{what} at byte {at}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// More than a peer may ask us to hold.
    #[error("the pickle has too many {0}")]
    TooMany(&'static str),
}
