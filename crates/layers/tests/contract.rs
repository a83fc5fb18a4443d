//! Storages made of others keep the contract, whatever they are made of.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use zeolith_layers::{DemoStorage, ZlibStorage, references};
use zeolith_storage::{Storage, contract::Subject, memory::MemoryStorage};

fn memory() -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new("memory").collecting_garbage(references))
}

fn demo(base: Arc<dyn Storage>, changes: Arc<dyn Storage>) -> Arc<dyn Storage> {
    Arc::new(DemoStorage::new("demo", base, changes, None, 42))
}

mod changes_in_memory_over_nothing {
    use super::*;

    fn subject() -> Subject {
        Subject::new(demo(memory(), memory()), false, ())
    }

    zeolith_storage::contract_tests!(subject);
}

mod changes_over_changes {
    use super::*;

    fn subject() -> Subject {
        let changes = demo(memory(), memory());
        Subject::new(demo(demo(memory(), memory()), changes), false, ())
    }

    zeolith_storage::contract_tests!(subject);
}

mod compressed_records {
    use super::*;

    fn subject() -> Subject {
        Subject::new(Arc::new(ZlibStorage::new(memory(), true)), false, ())
    }

    zeolith_storage::contract_tests!(subject);
}

mod records_compressed_by_clients {
    use super::*;

    fn subject() -> Subject {
        Subject::new(Arc::new(ZlibStorage::for_compressing_clients(memory())), false, ())
    }

    zeolith_storage::contract_tests!(subject);
}

mod compressed_changes_over_compressed_records {
    use super::*;

    fn subject() -> Subject {
        let zlib = || Arc::new(ZlibStorage::new(memory(), true));
        Subject::new(Arc::new(ZlibStorage::new(demo(zlib(), zlib()), true)), false, ())
    }

    zeolith_storage::contract_tests!(subject);
}
