//! A directory of pages that only grows, so that readers need no lock and nothing ever moves.
//!
//! The directory comes in buckets of 1, 2, 4, ... pages, each made when one of its pages is. A page
//! whose bucket would be out of proportion to the pages there are is not taken.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// Positions in one page.
pub(super) const PAGE_SIZE: usize = 1024;
/// One bucket for each length in bits of a page's number plus one.
const BUCKETS: usize = 40;
/// The directory may have so many places for each page.
const SPREAD_MAX: u64 = 64;

/// The positions of neighbouring oids; 0 where there is none.
pub(super) struct Page(Box<[AtomicU64]>);

impl Default for Page {
    fn default() -> Self {
        Self((0..PAGE_SIZE).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Page {
    /// A page with these positions at their places.
    pub(super) fn of(entries: impl Iterator<Item = (usize, u64)>) -> Self {
        let mut positions: Box<[AtomicU64]> = (0..PAGE_SIZE).map(|_| AtomicU64::new(0)).collect();
        for (slot, position) in entries {
            if let Some(place) = positions.get_mut(slot) {
                *place.get_mut() = position;
            }
        }
        Self(positions)
    }

    pub(super) fn get(&self, slot: usize) -> Option<u64> {
        let position = self.0.get(slot)?.load(Ordering::Acquire);
        (position != 0).then_some(position)
    }

    /// Stores a position and gives back the one before. Only one thread at a time may.
    pub(super) fn set(&self, slot: usize, position: u64) -> Option<u64> {
        let place = self.0.get(slot)?;
        let previous = place.load(Ordering::Relaxed);
        place.store(position, Ordering::Release);
        (previous != 0).then_some(previous)
    }

    pub(super) fn first_from(&self, slot: usize) -> Option<(usize, u64)> {
        (slot..PAGE_SIZE).find_map(|slot| self.get(slot).map(|position| (slot, position)))
    }
}

type Bucket = Box<[OnceLock<Page>]>;

/// The directory.
pub(super) struct Pages {
    buckets: [OnceLock<Bucket>; BUCKETS],
    count: AtomicU64,
}

impl Default for Pages {
    fn default() -> Self {
        Self { buckets: [const { OnceLock::new() }; BUCKETS], count: AtomicU64::new(0) }
    }
}

impl Pages {
    pub(super) fn get(&self, number: u64) -> Option<&Page> {
        let (bucket, place) = place_of(number);
        self.buckets.get(bucket)?.get()?.get(place)?.get()
    }

    /// Takes a page under a number that has none, or gives it back if that lies too far out.
    pub(super) fn put(&self, number: u64, page: Page) -> Result<(), Page> {
        let count = self.count.load(Ordering::Relaxed);
        let (bucket, place) = place_of(number);
        let Some(bucket_slot) = self.buckets.get(bucket).filter(|_| number < (count + 16) * SPREAD_MAX)
        else {
            return Err(page);
        };
        let places = bucket_slot.get_or_init(|| (0..1_usize << bucket).map(|_| OnceLock::new()).collect());
        let Some(slot) = places.get(place) else {
            return Err(page);
        };
        slot.set(page)?;
        self.count.store(count + 1, Ordering::Relaxed);
        Ok(())
    }

    /// The first object with a position whose oid is not below `start`.
    pub(super) fn first_from(&self, start: u64) -> Option<(u64, u64)> {
        let first_page = start / PAGE_SIZE as u64;
        let (first_bucket, first_place) = place_of(first_page);
        for (bucket, places) in self.buckets.iter().enumerate().skip(first_bucket) {
            let Some(places) = places.get() else { continue };
            let skipped = if bucket == first_bucket { first_place } else { 0 };
            for (place, page) in places.iter().enumerate().skip(skipped) {
                let Some(page) = page.get() else { continue };
                let number = (1_u64 << bucket) - 1 + place as u64;
                let slot = if number == first_page { (start % PAGE_SIZE as u64) as usize } else { 0 };
                if let Some((slot, position)) = page.first_from(slot) {
                    return Some((number * PAGE_SIZE as u64 + slot as u64, position));
                }
            }
        }
        None
    }
}

/// Bucket and place of a page: bucket b holds the pages 2^b - 1 to 2^(b+1) - 2.
const fn place_of(number: u64) -> (usize, usize) {
    let shifted = number + 1;
    let bucket = shifted.ilog2();
    (bucket as usize, (shifted - (1 << bucket)) as usize)
}
