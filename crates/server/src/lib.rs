//! Carries bytes between sockets, core and storages: listeners, connection tasks, the log writer, timers, the event log.
