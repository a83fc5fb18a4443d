//! The in-memory storage keeps the contract.

use std::sync::Arc;
use zeolith_storage::{contract::Subject, memory::MemoryStorage};

fn memory_storage() -> Subject {
    Subject::new(Arc::new(MemoryStorage::new("memory")), false, ())
}

zeolith_storage::contract_tests!(memory_storage);
