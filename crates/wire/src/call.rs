//! The methods of the protocol: their names, how many arguments they take, and the request they make.

use crate::arguments::Arguments;
use zeolith_types::{Refusal, Request, TransactionStart, Value};

/// A method as clients call it.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) name: &'static str,
    parameters: &'static [&'static str],
    /// How many of the parameters have no default.
    required: usize,
}

/// The method of this name.
pub(crate) fn find_method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

impl Method {
    /// The request that a call with these arguments is.
    pub(crate) fn request(&self, values: Vec<Value>) -> Result<Request, Refusal> {
        self.check_count(values.len())?;
        let mut arguments = Arguments::new(values);
        let arguments = &mut arguments;
        Ok(match self.name {
            "register" => Request::Register {
                storage: arguments.text("storage_id")?,
                read_only: arguments.truth_or(false),
            },
            "get_info" => Request::GetInfo,
            "lastTransaction" => Request::LastTransaction,
            "getInvalidations" => Request::GetInvalidations { after: arguments.tid("tid")? },
            "ping" => Request::Ping,
            "new_oids" => Request::NewOids { count: arguments.int_or("n", NEW_OIDS_DEFAULT)? },
            "new_oid" => Request::NewOid,
            "loadBefore" => Request::LoadBefore { oid: arguments.oid()?, before: arguments.tid("tid")? },
            "loadSerial" => Request::LoadSerial { oid: arguments.oid()?, serial: arguments.tid("serial")? },
            "getTid" => Request::GetTid { oid: arguments.oid()? },
            "history" => {
                let oid = arguments.oid()?;
                let size = arguments.int_or("size", 1)?.clamp(0, i64::MAX.into());
                Request::History { oid, size: usize::try_from(size).unwrap_or(usize::MAX) }
            }
            "record_iternext" => Request::RecordIternext { next: arguments.optional_oid("next")? },
            "tpc_begin" => Request::TpcBegin(Box::new(TransactionStart {
                id: arguments.value(),
                user: arguments.bytes_or_text("user")?,
                description: arguments.bytes_or_text("description")?,
                extension: arguments.extension()?,
                tid: arguments.optional_tid("tid")?,
                status: arguments.status()?,
            })),
            "vote" => Request::Vote { id: arguments.value() },
            "tpc_finish" => Request::TpcFinish { id: arguments.value() },
            "tpc_abort" => Request::TpcAbort { id: arguments.value() },
            "undoLog" => {
                Request::UndoLog { first: arguments.index("first")?, last: arguments.index("last")? }
            }
            "undoInfo" => Request::UndoInfo {
                first: arguments.index("first")?,
                last: arguments.index("last")?,
                filter: arguments.undo_filter()?,
            },
            "pack" => Request::Pack { time: arguments.seconds("time")?, wait: arguments.truth_or(true) },
            "server_status" => Request::ServerStatus,
            "set_client_label" => Request::SetClientLabel { label: arguments.text("label")? },
            name if name.starts_with("iterator_") => iterator_request(name, arguments)?,
            name => write_request(name, arguments)?,
        })
    }

    /// Says what Python says of a wrong count.
    fn check_count(&self, given: usize) -> Result<(), Refusal> {
        let (name, most) = (self.name, self.parameters.len());
        if let Some(missing @ [_, ..]) = self.parameters[..self.required].get(given..) {
            let quoted: Vec<String> = missing.iter().map(|name| format!("'{name}'")).collect();
            let (last, others) = quoted.split_last().expect("the pattern holds one at least");
            let list = match others {
                [] => last.clone(),
                [other] => format!("{other} and {last}"),
                _ => format!("{}, and {last}", others.join(", ")),
            };
            let (count, plural) = (missing.len(), if others.is_empty() { "" } else { "s" });
            return Err(Refusal::Type(format!(
                "{name}() missing {count} required positional argument{plural}: {list}"
            )));
        }
        if given > most {
            // Python counts `self` in.
            let takes = if self.required < most {
                format!("from {} to {}", self.required + 1, most + 1)
            } else {
                format!("{}", most + 1)
            };
            let (plural, given) = (if most == 0 { "" } else { "s" }, given + 1);
            return Err(Refusal::Type(format!(
                "{name}() takes {takes} positional argument{plural} but {given} were given"
            )));
        }
        Ok(())
    }
}

/// The methods that add to a transaction, and blobs.
fn write_request(name: &str, arguments: &mut Arguments) -> Result<Request, Refusal> {
    Ok(match name {
        "storea" => Request::Store {
            oid: arguments.oid()?,
            serial: arguments.tid("serial")?,
            data: arguments.bytes("data")?,
            id: arguments.value(),
        },
        "restorea" => Request::Restore {
            oid: arguments.oid()?,
            serial: arguments.tid("serial")?,
            data: arguments.optional_bytes("data")?,
            prev_txn: arguments.optional_tid("prev_txn")?,
            id: arguments.value(),
        },
        "deleteObject" => Request::DeleteObject {
            oid: arguments.oid()?,
            serial: arguments.tid("serial")?,
            id: arguments.value(),
        },
        "checkCurrentSerialInTransaction" => Request::CheckCurrentSerial {
            oid: arguments.oid()?,
            serial: arguments.tid("serial")?,
            id: arguments.value(),
        },
        "undoa" => Request::Undo { transaction: arguments.bytes_or_text("trans_id")?, id: arguments.value() },
        "storeBlobStart" => Request::StoreBlobStart,
        "storeBlobChunk" => Request::StoreBlobChunk { chunk: arguments.bytes("chunk")? },
        "storeBlobEnd" => Request::StoreBlobEnd {
            oid: arguments.oid()?,
            serial: arguments.tid("serial")?,
            data: arguments.bytes("data")?,
            id: arguments.value(),
        },
        "storeBlobShared" => Request::StoreBlobShared {
            oid: arguments.oid()?,
            serial: arguments.tid("serial")?,
            data: arguments.bytes("data")?,
            filename: arguments.text("filename")?,
            id: arguments.value(),
        },
        "sendBlob" => Request::SendBlob { oid: arguments.oid()?, serial: arguments.tid("serial")? },
        _ => unreachable!("every method in METHODS makes a request"),
    })
}

fn iterator_request(name: &str, arguments: &mut Arguments) -> Result<Request, Refusal> {
    Ok(match name {
        "iterator_start" => Request::IteratorStart {
            start: arguments.optional_tid("start")?,
            stop: arguments.optional_tid("stop")?,
        },
        "iterator_next" => Request::IteratorNext { iterator: arguments.int("iid")? },
        "iterator_record_start" => {
            Request::IteratorRecordStart { iterator: arguments.int("txn_iid")?, tid: arguments.tid("tid")? }
        }
        "iterator_record_next" => Request::IteratorRecordNext { iterator: arguments.int("iid")? },
        "iterator_gc" => Request::IteratorGc { iterators: arguments.ints("iids")? },
        _ => unreachable!("every method in METHODS makes a request"),
    })
}

/// What the protocol calls the method of a request.
#[must_use]
pub const fn method_name(request: &Request) -> &'static str {
    match request {
        Request::Register { .. } => "register",
        Request::GetInfo => "get_info",
        Request::LastTransaction => "lastTransaction",
        Request::GetInvalidations { .. } => "getInvalidations",
        Request::Ping => "ping",
        Request::NewOids { .. } => "new_oids",
        Request::NewOid => "new_oid",
        Request::LoadBefore { .. } => "loadBefore",
        Request::LoadSerial { .. } => "loadSerial",
        Request::GetTid { .. } => "getTid",
        Request::History { .. } => "history",
        Request::RecordIternext { .. } => "record_iternext",
        Request::TpcBegin(_) => "tpc_begin",
        Request::Store { .. } => "storea",
        Request::Restore { .. } => "restorea",
        Request::DeleteObject { .. } => "deleteObject",
        Request::CheckCurrentSerial { .. } => "checkCurrentSerialInTransaction",
        Request::Undo { .. } => "undoa",
        Request::StoreBlobStart => "storeBlobStart",
        Request::StoreBlobChunk { .. } => "storeBlobChunk",
        Request::StoreBlobEnd { .. } => "storeBlobEnd",
        Request::StoreBlobShared { .. } => "storeBlobShared",
        Request::Vote { .. } => "vote",
        Request::TpcFinish { .. } => "tpc_finish",
        Request::TpcAbort { .. } => "tpc_abort",
        Request::SendBlob { .. } => "sendBlob",
        Request::UndoLog { .. } => "undoLog",
        Request::UndoInfo { .. } => "undoInfo",
        Request::Pack { .. } => "pack",
        Request::IteratorStart { .. } => "iterator_start",
        Request::IteratorNext { .. } => "iterator_next",
        Request::IteratorRecordStart { .. } => "iterator_record_start",
        Request::IteratorRecordNext { .. } => "iterator_record_next",
        Request::IteratorGc { .. } => "iterator_gc",
        Request::ServerStatus => "server_status",
        Request::SetClientLabel { .. } => "set_client_label",
    }
}

const fn method(name: &'static str, parameters: &'static [&'static str], required: usize) -> Method {
    Method { name, parameters, required }
}

/// All methods, the frequent ones first.
const METHODS: &[Method] = &[
    method("loadBefore", &["oid", "tid"], 2),
    method("storea", &["oid", "serial", "data", "id"], 4),
    method("tpc_begin", &["id", "user", "description", "ext", "tid", "status"], 4),
    method("vote", &["id"], 1),
    method("tpc_finish", &["id"], 1),
    method("tpc_abort", &["id"], 1),
    method("checkCurrentSerialInTransaction", &["oid", "serial", "id"], 3),
    method("new_oids", &["n"], 0),
    method("ping", &[], 0),
    method("lastTransaction", &[], 0),
    method("storeBlobChunk", &["chunk"], 1),
    // Clients of ZEO 5 that were given credentials send them; nobody reads them.
    method("register", &["storage_id", "read_only", "credentials"], 2),
    method("get_info", &[], 0),
    method("getInvalidations", &["tid"], 1),
    // The reference lists it but has it not, so no number of arguments is wrong.
    method("new_oid", &["n", "n", "n", "n"], 0),
    method("loadSerial", &["oid", "serial"], 2),
    method("getTid", &["oid"], 1),
    method("history", &["oid", "size"], 1),
    method("record_iternext", &["next"], 0),
    method("restorea", &["oid", "serial", "data", "prev_txn", "id"], 5),
    method("deleteObject", &["oid", "serial", "id"], 3),
    method("undoa", &["trans_id", "id"], 2),
    method("storeBlobStart", &[], 0),
    method("storeBlobEnd", &["oid", "serial", "data", "id"], 4),
    method("storeBlobShared", &["oid", "serial", "data", "filename", "id"], 5),
    method("sendBlob", &["oid", "serial"], 2),
    method("undoLog", &["first", "last"], 2),
    method("undoInfo", &["first", "last", "spec"], 2),
    method("pack", &["time", "wait"], 1),
    method("iterator_start", &["start", "stop"], 2),
    method("iterator_next", &["iid"], 1),
    method("iterator_record_start", &["txn_iid", "tid"], 2),
    method("iterator_record_next", &["iid"], 1),
    method("iterator_gc", &["iids"], 1),
    method("server_status", &[], 0),
    method("set_client_label", &["label"], 1),
];
const NEW_OIDS_DEFAULT: i128 = 100;
