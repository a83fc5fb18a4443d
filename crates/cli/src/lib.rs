//! The zeolith command and the drop-in command names, a file for each subcommand.
