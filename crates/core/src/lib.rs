//! Who waits for whom: sessions, transactions, object locks, publication, invalidations, timeouts. No I/O, no clock, no thread.
