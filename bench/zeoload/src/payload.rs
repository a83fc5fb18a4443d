//! Deterministic, valid ZODB records (loadable PersistentMapping), so that
//! every loaded byte can be checked and a pack can read them.

const HEAD: &[u8] = b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\x01.\x80\x03}q\x02X\x04\x00\x00\x00dataq\x03}q\x04X\x01\x00\x00\x00pq\x05B";
const TAIL: &[u8] = b"q\x06ss.";
pub const MIN: usize = HEAD.len() + 4 + 16 + TAIL.len();

#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
    z ^ (z >> 29)
}

/// Half pseudo-random, half constant text (compresses to about one half).
pub fn record(out: &mut Vec<u8>, oid: u64, generation: u64, size: usize) {
    let size = size.max(MIN);
    let body = size - HEAD.len() - 4 - TAIL.len();
    out.clear();
    out.reserve(size);
    out.extend_from_slice(HEAD);
    out.extend_from_slice(&(body as u32).to_le_bytes());
    out.extend_from_slice(&oid.to_le_bytes());
    out.extend_from_slice(&generation.to_le_bytes());
    let seed = oid.wrapping_mul(0x9e3779b97f4a7c15) ^ generation.rotate_left(17);
    let end = size - TAIL.len();
    let mut i = 0u64;
    while out.len() + 16 <= end {
        out.extend_from_slice(&mix(seed.wrapping_add(i)).to_le_bytes());
        out.extend_from_slice(b"ZEOBENCH");
        i += 1
    }
    out.resize(end, b'.');
    out.extend_from_slice(TAIL)
}

/// Returns the generation if `data` is exactly the record for `oid`.
pub fn verify(data: &[u8], oid: u64, scratch: &mut Vec<u8>) -> Option<u64> {
    if data.len() < MIN {
        return None;
    }
    let at = HEAD.len() + 4;
    let generation = u64::from_le_bytes(data[at + 8..at + 16].try_into().unwrap());
    record(scratch, oid, generation, data.len());
    (data == &scratch[..]).then_some(generation)
}

/// A PersistentMapping record whose values are references to `refs`.
pub fn tree_record(refs: &[u64]) -> Vec<u8> {
    let mut o = Vec::with_capacity(80 + refs.len() * 60);
    o.extend_from_slice(
        b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\x01.\x80\x03}q\x02X\x04\x00\x00\x00dataq\x03}q\x04(",
    );
    for r in refs {
        let k = format!("{r:x}");
        o.push(b'X');
        o.extend_from_slice(&(k.len() as u32).to_le_bytes());
        o.extend_from_slice(k.as_bytes());
        o.extend_from_slice(b"C\x08");
        o.extend_from_slice(&r.to_be_bytes());
        o.extend_from_slice(b"cpersistent.mapping\nPersistentMapping\n\x86Q");
    }
    o.extend_from_slice(b"us.");
    o
}
