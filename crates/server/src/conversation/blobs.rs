//! The blobs of a conversation: uploads are gathered into pieces that the pool writes, and a download is opened
//! by the pool before `blob_stream.rs` sends it.

use super::Conversation;
use crate::{ended::Ended, jobs::Job, log, refusals::refusal};
use bytes::Bytes;
use zeolith_core::{Answer, BlobStep, Caller};
use zeolith_storage::{BlobUpload, StorageError, UploadedBlob};
use zeolith_types::{Refusal, Reply};

/// A blob that a client uploads.
#[derive(Default)]
pub(crate) struct Upload {
    /// Where it goes; nothing until the first piece is written.
    pub(crate) upload: Option<Box<dyn BlobUpload>>,
    /// What has come and is not written.
    pub(crate) piece: Vec<Bytes>,
    piece_len: usize,
}

impl Upload {
    /// Whether enough has come to be worth a job.
    fn push(&mut self, chunk: Bytes) -> bool {
        self.piece_len += chunk.len();
        self.piece.push(chunk);
        self.piece_len >= PIECE_LEN
    }

    /// Writes what has come.
    pub(crate) fn write(&mut self, blobs: &dyn zeolith_storage::Blobs) -> Result<(), StorageError> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => self.upload.insert(blobs.begin_upload()?),
        };
        self.piece_len = 0;
        self.piece.drain(..).try_for_each(|chunk| upload.append(&chunk))
    }

    /// Writes what has come, and ends the upload.
    pub(crate) fn finish(mut self, blobs: &dyn zeolith_storage::Blobs) -> Result<UploadedBlob, StorageError> {
        self.write(blobs)?;
        match self.upload {
            Some(upload) => upload.finish(),
            None => Err(StorageError::NoBlobs),
        }
    }
}

impl Conversation {
    /// Takes a step of an upload; what may wait for the disk comes back as a job.
    pub(super) fn blob(
        &mut self,
        to: Caller,
        step: BlobStep,
        out: &mut Vec<u8>,
    ) -> Result<Option<Job>, Ended> {
        let Some(host) = &self.host else { return Ok(None) };
        if let Err(error) = host.storage.blobs() {
            return self.answer(Answer { to, result: Err(refusal(error)) }, out).map(|()| None);
        }
        match step {
            BlobStep::Begin => self.upload = Some(Upload::default()),
            BlobStep::Append(chunk) => {
                if let Some(mut upload) = self.upload.take() {
                    if upload.push(chunk) {
                        return Ok(Some(Job::WriteBlob(to, upload)));
                    }
                    self.upload = Some(upload);
                }
            }
            BlobStep::Discard => self.upload = None,
            BlobStep::End(record) => {
                let upload = self.upload.take().unwrap_or_default();
                return Ok(Some(Job::EndBlob(to, record, upload)));
            }
            BlobStep::Shared(record, name) => return Ok(Some(Job::TakeShared(to, record, name))),
        }
        self.answer(Answer { to, result: Ok(Reply::None) }, out).map(|()| None)
    }

    /// A name of a file that nobody makes by mistake.
    pub(super) fn report_bad_name(&self, name: &Refusal) {
        log::critical!(
            log::STORAGE_SERVER,
            "({}) We're under attack! (bad filename to storeBlobShared, {name})",
            self.label
        );
    }
}

/// So much of an upload is written at once. A connection holds no more of it in memory, but for its last frame.
const PIECE_LEN: usize = 512 << 10;
