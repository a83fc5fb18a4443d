//! The table of methods: name, parameters, how many of them are needed, and the request they make.

use crate::{arguments::Arguments, call::Method};
use zeolith_pickle::transaction_token;
use zeolith_types::{Refusal, Request, TransactionStart};

/// All methods, the frequent ones first.
pub(crate) const METHODS: &[Method] = &[
    method("loadBefore", &["oid", "tid"], 2, |arguments| {
        Ok(Request::LoadBefore { oid: arguments.oid()?, before: arguments.tid("tid")? })
    }),
    method("storea", &["oid", "serial", "data", "id"], 4, |arguments| {
        Ok(Request::Store {
            oid: arguments.oid()?,
            serial: arguments.serial()?,
            data: arguments.bytes("data")?,
            id: arguments.value(),
        })
    }),
    method("tpc_begin", &["id", "user", "description", "ext", "tid", "status"], 4, |arguments| {
        let (id, user) = (arguments.value(), arguments.bytes_or_text("user")?);
        let (description, extension) = (arguments.bytes_or_text("description")?, arguments.extension()?);
        let token = transaction_token(&extension);
        let (tid, status) = (arguments.optional_tid("tid")?, arguments.status()?);
        let start = TransactionStart { id, user, description, extension, tid, status, token };
        Ok(Request::TpcBegin(Box::new(start)))
    }),
    method("vote", &["id"], 1, |arguments| Ok(Request::Vote { id: arguments.value() })),
    method("tpc_finish", &["id"], 1, |arguments| Ok(Request::TpcFinish { id: arguments.value() })),
    method("tpc_abort", &["id"], 1, |arguments| Ok(Request::TpcAbort { id: arguments.value() })),
    method("checkCurrentSerialInTransaction", &["oid", "serial", "id"], 3, |arguments| {
        Ok(Request::CheckCurrentSerial {
            oid: arguments.oid()?,
            serial: arguments.serial()?,
            id: arguments.value(),
        })
    }),
    method("new_oids", &["n"], 0, |arguments| {
        Ok(Request::NewOids { count: arguments.int_or("n", NEW_OIDS_DEFAULT)? })
    }),
    method("ping", &[], 0, |_| Ok(Request::Ping)),
    method("lastTransaction", &[], 0, |_| Ok(Request::LastTransaction)),
    method("storeBlobChunk", &["chunk"], 1, |arguments| {
        Ok(Request::StoreBlobChunk { chunk: arguments.bytes("chunk")? })
    }),
    // Clients of ZEO 5 that were given credentials send them; nobody reads them.
    method("register", &["storage_id", "read_only", "credentials"], 2, |arguments| {
        Ok(Request::Register { storage: arguments.text("storage_id")?, read_only: arguments.truth_or(false) })
    }),
    method("get_info", &[], 0, |_| Ok(Request::GetInfo)),
    method("getInvalidations", &["tid"], 1, |arguments| {
        Ok(Request::GetInvalidations { after: arguments.tid("tid")? })
    }),
    // The reference lists it but has it not: it is refused later, whatever its arguments.
    method("new_oid", &["n", "n", "n", "n"], 0, |_| Ok(Request::NewOid)),
    method("loadSerial", &["oid", "serial"], 2, |arguments| {
        Ok(Request::LoadSerial { oid: arguments.oid()?, serial: arguments.tid("serial")? })
    }),
    method("getTid", &["oid"], 1, |arguments| Ok(Request::GetTid { oid: arguments.oid()? })),
    method("history", &["oid", "size"], 1, |arguments| {
        let oid = arguments.oid_to_look_up()?;
        let size = arguments.int_or("size", 1)?.max(0);
        Ok(Request::History { oid, size: usize::try_from(size).unwrap_or(usize::MAX) })
    }),
    method("record_iternext", &["next"], 0, |arguments| {
        Ok(Request::RecordIternext { next: arguments.optional_oid("next")? })
    }),
    method("restorea", &["oid", "serial", "data", "prev_txn", "id"], 5, |arguments| {
        Ok(Request::Restore {
            oid: arguments.oid()?,
            serial: arguments.tid("serial")?,
            data: arguments.optional_bytes("data")?,
            prev_txn: arguments.optional_tid("prev_txn")?,
            id: arguments.value(),
        })
    }),
    method("deleteObject", &["oid", "serial", "id"], 3, |arguments| {
        Ok(Request::DeleteObject {
            oid: arguments.oid()?,
            serial: arguments.serial()?,
            id: arguments.value(),
        })
    }),
    method("undoa", &["trans_id", "id"], 2, |arguments| {
        Ok(Request::Undo { transaction: arguments.bytes_or_text("trans_id")?, id: arguments.value() })
    }),
    method("storeBlobStart", &[], 0, |_| Ok(Request::StoreBlobStart)),
    method("storeBlobEnd", &["oid", "serial", "data", "id"], 4, |arguments| {
        Ok(Request::StoreBlobEnd {
            oid: arguments.oid()?,
            serial: arguments.serial()?,
            data: arguments.bytes("data")?,
            id: arguments.value(),
        })
    }),
    method("storeBlobShared", &["oid", "serial", "data", "filename", "id"], 5, |arguments| {
        Ok(Request::StoreBlobShared {
            oid: arguments.oid()?,
            serial: arguments.serial()?,
            data: arguments.bytes("data")?,
            filename: arguments.text("filename")?,
            id: arguments.value(),
        })
    }),
    method("sendBlob", &["oid", "serial"], 2, |arguments| {
        Ok(Request::SendBlob { oid: arguments.oid()?, serial: arguments.tid("serial")? })
    }),
    method("undoLog", &["first", "last"], 2, |arguments| {
        Ok(Request::UndoLog { first: arguments.index("first")?, last: arguments.index("last")? })
    }),
    method("undoInfo", &["first", "last", "spec"], 2, |arguments| {
        Ok(Request::UndoInfo {
            first: arguments.index("first")?,
            last: arguments.index("last")?,
            filter: arguments.undo_filter()?,
        })
    }),
    method("pack", &["time", "wait"], 1, |arguments| {
        Ok(Request::Pack { time: arguments.seconds("time")?, wait: arguments.truth_or(true) })
    }),
    // Ours: the reference has neither.
    method("pack_estimate", &["time"], 1, |arguments| {
        Ok(Request::PackEstimate { time: arguments.seconds("time")? })
    }),
    method("pack_cancel", &[], 0, |_| Ok(Request::PackCancel)),
    method("iterator_start", &["start", "stop"], 2, |arguments| {
        Ok(Request::IteratorStart {
            start: arguments.optional_tid("start")?,
            stop: arguments.optional_tid("stop")?,
        })
    }),
    method("iterator_next", &["iid"], 1, |arguments| {
        Ok(Request::IteratorNext { iterator: arguments.int("iid")? })
    }),
    method("iterator_record_start", &["txn_iid", "tid"], 2, |arguments| {
        Ok(Request::IteratorRecordStart { iterator: arguments.int("txn_iid")?, tid: arguments.tid("tid")? })
    }),
    method("iterator_record_next", &["iid"], 1, |arguments| {
        Ok(Request::IteratorRecordNext { iterator: arguments.int("iid")? })
    }),
    method("iterator_gc", &["iids"], 1, |arguments| {
        Ok(Request::IteratorGc { iterators: arguments.ints("iids")? })
    }),
    method("server_status", &[], 0, |_| Ok(Request::ServerStatus)),
    method("transaction_outcome", &["token", "since"], 2, |arguments| {
        Ok(Request::TransactionOutcome { token: arguments.token()?, since: arguments.tid("since")? })
    }),
    method("set_client_label", &["label"], 1, |arguments| {
        Ok(Request::SetClientLabel { label: arguments.text("label")? })
    }),
];

const fn method(
    name: &'static str,
    parameters: &'static [&'static str],
    required: usize,
    read: fn(&mut Arguments) -> Result<Request, Refusal>,
) -> Method {
    Method { name, parameters, required, read }
}

const NEW_OIDS_DEFAULT: i128 = 100;
