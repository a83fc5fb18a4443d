//! What a pack would do: its first half, and then a count instead of a copy.

use super::{Packing, kept::Kept, mark, survey::Survey, watch::Watch};
use crate::{
    file::Want,
    format::{FIRST_TRANSACTION, NUMBER_LEN, RECORD_HEADER_LEN, RecordHeader, STATUS_UNDONE},
    input::Input,
    storage::{FileStorage, State},
};
use std::ops::ControlFlow;
use zeolith_storage::{PackEstimate, PackPhase, PackProgress, Patience, Result};
use zeolith_types::Tid;

impl FileStorage {
    pub(crate) fn estimate_until(
        &self,
        until: Tid,
        report: &mut dyn FnMut(PackProgress) -> ControlFlow<()>,
    ) -> Result<PackEstimate> {
        let _estimating = Packing::begin(&self.estimating)?;
        let mut watch = self.watch(report);
        let state = self.state.load_full();
        let before = state.end;
        let unchanged = PackEstimate { before, after: before };
        if state.index.count() == 0 {
            return Ok(unchanged);
        }
        let Some(survey) = Survey::of(&state, until, &mut watch)? else {
            return Ok(unchanged);
        };
        let kept = mark::mark(survey, self.options.pack_gc, &mut watch)?;
        let packed = packed_len(&state, &kept, &mut watch)?;
        Ok(PackEstimate { before, after: packed + (before - kept.pack_position) })
    }
}

/// How long the file gets up to the pack time.
fn packed_len(state: &State, kept: &Kept, watch: &mut Watch<'_>) -> Result<u64> {
    let mut input = Input::new(&state.file, kept.pack_position);
    let (mut len, mut position) = (FIRST_TRANSACTION, FIRST_TRANSACTION);
    while position < kept.pack_position {
        let header = input.transaction(position)?;
        let (start, end) = (position, position + header.len);
        position += header.header_len();
        let mut records = 0;
        while position < end {
            let record = input.record(position, start, end)?;
            if header.status != STATUS_UNDONE && kept.takes(&mut input, &record, position)? {
                records += RECORD_HEADER_LEN as u64 + body_len(state, &mut input, &record, position)?;
            }
            position += record.record_len();
        }
        position = end + NUMBER_LEN as u64;
        if records > 0 || kept.is_last(position) {
            len += header.header_len() + records + NUMBER_LEN as u64;
        }
        watch.at(PackPhase::Copy, position, kept.pack_position, input.take_read())?;
    }
    Ok(len)
}

/// How long what follows a record's header gets, with the data that it points back to.
fn body_len(state: &State, input: &mut Input<'_>, record: &RecordHeader, position: u64) -> Result<u64> {
    if record.data_len > 0 {
        return Ok(record.data_len);
    }
    let mut pointer = input.number(position + RECORD_HEADER_LEN as u64)?;
    let mut before = position;
    while pointer != 0 {
        let pointed = state.file.record(record.oid, pointer, before, Want::Header, Patience::Wait)?;
        match pointed.backpointer() {
            Some(next) => (before, pointer) = (pointer, next),
            None if pointed.is_gone() => break,
            None => return Ok(pointed.header.data_len),
        }
    }
    Ok(NUMBER_LEN as u64)
}
