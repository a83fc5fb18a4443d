//! The harmless constructors: the only globals that a peer's pickle may name.
//!
//! The reference lets every name of `builtins` through, `eval` among them; here the exact names
//! count, and each makes nothing but a plain value.

/// A global that may be named. None is ever called: each says how to build one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    Set,
    List,
    Tuple,
    Dict,
    Bytes,
    Bytearray,
    Str,
    Int,
    Float,
    Bool,
    /// `object`, which only stands as an argument of `Reconstructor`.
    Object,
    /// `ZopeUndo.Prefix.Prefix`, which Zope puts into the filter of `undoInfo`.
    UndoPrefix,
    /// `copy_reg._reconstructor(Prefix, object, None)`: how protocols 0 and 1 spell an instance.
    Reconstructor,
}

impl Global {
    /// The global of this exact name.
    pub(crate) fn find(module: &[u8], name: &[u8]) -> Option<Self> {
        match (module, name) {
            (b"builtins" | b"__builtin__", name) => Self::find_builtin(name),
            (b"zodbpickle", b"binary") => Some(Self::Bytes),
            (b"ZopeUndo.Prefix", b"Prefix") => Some(Self::UndoPrefix),
            (b"copy_reg" | b"copyreg", b"_reconstructor") => Some(Self::Reconstructor),
            _ => None,
        }
    }

    fn find_builtin(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"set" | b"frozenset" => Self::Set,
            b"list" => Self::List,
            b"tuple" => Self::Tuple,
            b"dict" => Self::Dict,
            b"bytes" => Self::Bytes,
            b"bytearray" => Self::Bytearray,
            b"str" | b"unicode" => Self::Str,
            b"int" | b"long" => Self::Int,
            b"float" => Self::Float,
            b"bool" => Self::Bool,
            b"object" => Self::Object,
            _ => return None,
        })
    }

    /// What Python calls it, for error messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::List => "list",
            Self::Tuple => "tuple",
            Self::Dict => "dict",
            Self::Bytes => "bytes",
            Self::Bytearray => "bytearray",
            Self::Str => "str",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Object => "object",
            Self::UndoPrefix => "Prefix",
            Self::Reconstructor => "_reconstructor",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_do_something_are_not_found() {
        for name in ["eval", "exec", "open", "getattr", "__import__", "compile", "type", "Set"] {
            assert_eq!(Global::find(b"builtins", name.as_bytes()), None, "{name}");
        }
        assert_eq!(Global::find(b"os", b"system"), None);
        assert_eq!(Global::find(b"_codecs", b"encode"), None);
        assert_eq!(Global::find(b"__builtin__", b"set"), Some(Global::Set));
    }
}
