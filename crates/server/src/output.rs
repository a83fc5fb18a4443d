//! Encodes what the core says into the output buffer of a connection.

use crate::host::Host;
use std::sync::Arc;
use zeolith_core::{Outbox, Publication};
use zeolith_storage::Sizes;
use zeolith_types::{MessageId, Notice, Refusal, Reply};
use zeolith_wire::Encoding;

/// Encodes what the core says into the output buffer.
pub(crate) struct Output<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) encoding: Encoding,
    pub(crate) host: Option<&'a Host>,
}

impl Outbox for Output<'_> {
    fn invalidate(&mut self, publication: &Publication) {
        let notice = Notice::Invalidate { tid: publication.tid, oids: Arc::clone(&publication.oids) };
        zeolith_wire::encode_notice(self.encoding, &notice, self.out);
    }

    fn info(&mut self) {
        if let Some(host) = self.host {
            let Sizes { length, size } = host.storage.sizes();
            zeolith_wire::encode_notice(self.encoding, &Notice::Info { length, size }, self.out);
        }
    }

    fn reply(&mut self, id: &MessageId, reply: &Reply) {
        zeolith_wire::encode_reply(self.encoding, id, reply, self.out);
    }

    fn refuse(&mut self, id: &MessageId, refusal: &Refusal) {
        zeolith_wire::encode_refusal(self.encoding, id, refusal, self.out);
    }
}
