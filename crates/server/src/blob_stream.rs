//! A blob on its way to a client: a notice of its beginning, its bytes in pieces, a notice of its end.
//!
//! No more than one piece is in memory, whatever the size of the blob: the next is read when the socket has
//! taken the last.

use std::io;
use tokio::task::spawn_blocking;
use zeolith_core::Caller;
use zeolith_storage::{BlobReader, StorageError};
use zeolith_types::{Notice, Oid, Tid};
use zeolith_wire::Encoding;

/// A blob that is being sent.
pub(crate) struct BlobStream {
    /// Who gets the answer after it.
    pub(crate) to: Caller,
    pub(crate) oid: Oid,
    pub(crate) serial: Tid,
    pub(crate) reader: Box<dyn BlobReader>,
}

impl BlobStream {
    /// Writes the notice of its beginning.
    pub(crate) fn begin(&self, encoding: Encoding, out: &mut Vec<u8>) {
        zeolith_wire::encode_notice(encoding, &Notice::BlobStart(self.oid, self.serial), out);
    }

    /// Writes the notice of its end.
    pub(crate) fn end(&self, encoding: Encoding, out: &mut Vec<u8>) {
        zeolith_wire::encode_notice(encoding, &Notice::BlobStop(self.oid, self.serial), out);
    }

    /// Reads the next piece on the pool and writes it; whether there was one.
    pub(crate) async fn send_piece(
        self,
        encoding: Encoding,
        out: &mut Vec<u8>,
    ) -> Result<(Self, bool), StreamError> {
        let Self { to, oid, serial, mut reader } = self;
        let read = spawn_blocking(move || read_piece(&mut *reader).map(|piece| (reader, piece))).await;
        let (reader, piece) = read.map_err(|error| StreamError::Pool(io::Error::other(error)))??;
        for start in (0..piece.len()).step_by(CHUNK_LEN) {
            let chunk = piece.slice(start..piece.len().min(start + CHUNK_LEN));
            zeolith_wire::encode_notice(encoding, &Notice::BlobChunk(oid, serial, chunk), out);
        }
        Ok((Self { to, oid, serial, reader }, !piece.is_empty()))
    }
}

/// Why a blob that has begun can't be sent to its end.
pub(crate) enum StreamError {
    /// It can't be read.
    Storage(StorageError),
    /// The pool is gone.
    Pool(io::Error),
}

impl From<StorageError> for StreamError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// The next bytes, fewer than a whole piece only at the end.
fn read_piece(reader: &mut dyn BlobReader) -> Result<bytes::Bytes, StorageError> {
    let mut piece = vec![0; PIECE_LEN];
    let mut done = 0;
    while let Some(rest) = piece.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest)? {
            0 => break,
            count => done += count,
        }
    }
    piece.truncate(done);
    Ok(piece.into())
}

/// Bytes in one message, as the reference sends them.
const CHUNK_LEN: usize = 59_000;
/// Bytes read at a time.
const PIECE_LEN: usize = 8 * CHUNK_LEN;
