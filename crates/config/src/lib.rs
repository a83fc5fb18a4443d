//! The ZConfig grammar and data types, with errors that quote file, line and key.
