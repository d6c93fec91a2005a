#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::offset_index::OffsetIndex;
use super::time_index::TimeIndex;
use super::walk::Headers;
#[cfg(any(test, feature = "__internal"))]
use super::walk::{Walk, WalkEnd};
use crate::record::BatchHeader;

/// Builds the two indexes of a segment batch by batch, with Kafka's spacing (`LogSegment.append`).
///
/// A counter holds the bytes since the last entry. If the counter is above `index.interval.bytes`, the next
/// batch gets an entry in both indexes, and the counter restarts at 0. Then the size of the batch is added to
/// the counter. So the first batch never gets an entry.
#[derive(Debug, Clone)]
pub(crate) struct IndexBuilder {
    interval_bytes: u64,
    bytes_since_entry: u64,
    /// The largest timestamp so far, and the last offset of the first batch that reached it.
    largest: (i64, i64),
    offsets: OffsetIndex,
    times: TimeIndex,
}

impl IndexBuilder {
    /// Creates the builder of an empty segment.
    pub(crate) const fn new(base_offset: i64, interval_bytes: u64) -> Self {
        Self {
            interval_bytes,
            bytes_since_entry: 0,
            largest: (-1, base_offset),
            offsets: OffsetIndex::new(base_offset),
            times: TimeIndex::new(base_offset),
        }
    }

    /// Creates the builder of a segment that is continued. Also returns the position of the last entry: from
    /// there on the caller must give all batches to [`IndexBuilder::on_batch`] again. The builder then has
    /// the state in which it added that entry, so it adds nothing twice and leaves nothing out.
    ///
    /// The file of one index may have reached the disk without the other. So this reads the batches between
    /// the last time entry and the last offset entry again. A larger timestamp among them would falsify every
    /// later time entry (S4). Returns `None` if the last offset entry does not match the log, or if the log
    /// is damaged before it. Both indexes should be rebuilt then.
    pub(crate) fn resume<L: Headers + ?Sized>(
        offsets: OffsetIndex,
        times: TimeIndex,
        interval_bytes: u64,
        log: &L,
    ) -> Result<Option<(Self, u64)>, L::Error> {
        let last = offsets.last();
        let largest = times.last().unwrap_or((-1, offsets.base_offset()));
        let (base_offset, from) = (offsets.base_offset(), offsets.lookup(largest.1));
        let mut builder = Self { interval_bytes, bytes_since_entry: 0, largest, offsets, times };
        let Some((last_offset, position)) = last else { return Ok(Some((builder, 0))) };
        for item in log.walk(base_offset, from) {
            let (at, header) = match item {
                Err(error) if L::is_damage(&error) => return Ok(None),
                item => item?,
            };
            if at >= position {
                let same = (header.last_offset(), at) == (last_offset, position);
                return Ok(same.then_some((builder, position)));
            }
            builder.note_timestamp(header.max_timestamp, header.last_offset());
        }
        Ok(None)
    }

    const fn note_timestamp(&mut self, max_timestamp: i64, last_offset: i64) {
        if max_timestamp > self.largest.0 {
            self.largest = (max_timestamp, last_offset);
        }
    }

    /// Adds the next batch, `size` bytes from `position`. Returns whether it added entries.
    pub(crate) fn on_batch(
        &mut self,
        last_offset: i64,
        position: u64,
        size: u64,
        max_timestamp: i64,
    ) -> bool {
        self.note_timestamp(max_timestamp, last_offset);
        let mut added = false;
        if self.bytes_since_entry > self.interval_bytes {
            added = self.offsets.push(last_offset, position);
            self.times.push(self.largest.0, self.largest.1);
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry = self.bytes_since_entry.saturating_add(size);
        added
    }

    /// As [`IndexBuilder::on_batch`], with the batch's header.
    pub(crate) fn on_header(&mut self, position: u64, header: &BatchHeader) -> bool {
        let size = header.total_bytes() as u64;
        self.on_batch(header.last_offset(), position, size, header.max_timestamp)
    }

    /// Adds all batches from `position` on, up to the end of the log or the first damage.
    pub(crate) fn extend<L: Headers + ?Sized>(
        &mut self,
        log: &L,
        position: u64,
    ) -> Result<(), L::Error> {
        for item in log.walk(self.offsets.base_offset(), position) {
            match item {
                Ok((position, header)) => self.on_header(position, &header),
                Err(error) if L::is_damage(&error) => break,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// As [`IndexBuilder::extend`]. Returns where and why it ended.
    #[cfg(any(test, feature = "__internal"))]
    pub(crate) fn scan(&mut self, log: &[u8], position: u64) -> WalkEnd {
        let mut walk = Walk::from_position(log, self.offsets.base_offset(), position);
        for (position, batch) in walk.by_ref() {
            self.on_header(position, batch.header());
        }
        // A walk that returned `None` always has an end.
        walk.end().unwrap_or(WalkEnd::Clean)
    }

    /// Adds the last time entry, at a roll or clean close. The index then has the largest timestamp of the
    /// segment. Returns whether an entry was needed.
    ///
    /// A segment without an offset entry is so short that it gets no time entry either: both would save
    /// nothing, and each would take a file.
    pub(crate) fn finish(&mut self) -> bool {
        self.offsets.len() > 0 && self.times.push(self.largest.0, self.largest.1)
    }

    pub(crate) const fn offsets(&self) -> &OffsetIndex {
        &self.offsets
    }

    pub(crate) const fn times(&self) -> &TimeIndex {
        &self.times
    }

    #[cfg(any(test, feature = "__internal"))]
    pub(crate) fn into_indexes(self) -> (OffsetIndex, TimeIndex) {
        (self.offsets, self.times)
    }
}

/// Rebuilds both indexes of a segment from its log, as far as the log is valid. The last value says where and
/// why it ended.
#[cfg(any(test, feature = "__internal"))]
pub(crate) fn rebuild(
    log: &[u8],
    base_offset: i64,
    interval_bytes: u64,
) -> (OffsetIndex, TimeIndex, WalkEnd) {
    let mut builder = IndexBuilder::new(base_offset, interval_bytes);
    let end = builder.scan(log, 0);
    builder.finish();
    let (offsets, times) = builder.into_indexes();
    (offsets, times, end)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use super::super::walk::tests::batch;
    use super::*;
    use proptest::prelude::*;

    struct Fixture {
        base_offset: i64,
        next_offset: i64,
        log: &'static [u8],
        index: &'static [u8],
        timeindex: &'static [u8],
    }

    macro_rules! fixture {
        ($base:literal, $next:literal) => {
            Fixture {
                base_offset: $base,
                next_offset: $next,
                log: fixture!($base, $next, ".log"),
                index: fixture!($base, $next, ".index"),
                timeindex: fixture!($base, $next, ".timeindex"),
            }
        };
        ($base:literal, $next:literal, $extension:literal) => {
            include_bytes!(concat!(
                "../../tests/vectors/partition/seg-0/0000000000000000",
                stringify!($base),
                $extension
            ))
        };
    }

    /// Two segments that Kafka wrote with index.interval.bytes = 400.
    const FIXTURES: [Fixture; 2] = [fixture!(5000, 5087), fixture!(5087, 5154)];
    const INTERVAL: u64 = 400;

    #[test]
    fn kafkas_indexes_are_read_and_written_byte_for_byte() {
        for fixture in FIXTURES {
            let Fixture { base_offset, next_offset, log, index, timeindex } = fixture;
            let offsets = OffsetIndex::parse(index, base_offset, log.len() as u64).unwrap();
            let times = TimeIndex::parse(timeindex, base_offset, next_offset).unwrap();
            assert_eq!(
                (offsets.encode_from(0).0, times.encode_from(0).0),
                (index.to_vec(), timeindex.to_vec())
            );
            let rebuilt = rebuild(log, base_offset, INTERVAL);
            assert_eq!(rebuilt, (offsets, times, WalkEnd::Clean));
        }
    }

    #[test]
    fn every_offset_and_timestamp_of_kafkas_segments_is_found() {
        for Fixture { base_offset, next_offset, log, .. } in FIXTURES {
            let (offsets, times, _) = rebuild(log, base_offset, INTERVAL);
            for offset in base_offset..next_offset {
                let (_, header) = offsets.locate(log, offset).unwrap().unwrap();
                assert!((header.base_offset..=header.last_offset()).contains(&offset));
            }
            assert_eq!(offsets.locate(log, next_offset), Ok(None));
            let mut largest = -1;
            for (position, batch) in Walk::new(log, base_offset) {
                batch.verify_crc().unwrap();
                let timestamp = batch.header().max_timestamp;
                if timestamp > largest {
                    largest = timestamp;
                    let found = times.locate(&offsets, log, timestamp).unwrap();
                    assert_eq!(found, Some((position, *batch.header())));
                }
            }
            assert_eq!(times.last().unwrap().0, largest);
            assert_eq!(times.locate(&offsets, log, largest + 1), Ok(None));
        }
    }

    #[test]
    fn a_continued_builder_adds_what_an_uninterrupted_one_adds() {
        for Fixture { base_offset, log, .. } in FIXTURES {
            let mut whole = IndexBuilder::new(base_offset, INTERVAL);
            whole.scan(log, 0);
            let positions: Vec<u64> = Walk::new(log, base_offset).map(|(at, _)| at).collect();
            for cut in positions {
                let mut first = IndexBuilder::new(base_offset, INTERVAL);
                assert_eq!(first.scan(&log[..cut as usize], 0), WalkEnd::Clean);
                let (offsets, times) = first.into_indexes();
                let (mut second, from) =
                    IndexBuilder::resume(offsets, times, INTERVAL, log).unwrap().unwrap();
                assert!(from <= cut);
                assert_eq!(second.scan(log, from), WalkEnd::Clean);
                assert_eq!(second.offsets(), whole.offsets(), "{cut}");
                assert_eq!(second.times(), whole.times(), "{cut}");
                assert_eq!(second.largest.0, whole.largest.0);
            }
        }
    }

    #[test]
    fn a_lost_time_index_does_not_make_later_entries_false() {
        // The largest timestamp comes first. A builder that did not read back would take the smaller ones
        // after it for the largest.
        let log: Vec<u8> = (0..9).flat_map(|i| batch(i, 1, 90 - 10 * i, 100)).collect();
        let (offsets, times, _) = rebuild(&log, 0, 0);
        assert_eq!((offsets.len(), times.len()), (8, 1));
        let lost = TimeIndex::new(0);
        let (mut builder, from) =
            IndexBuilder::resume(offsets.clone(), lost, 0, &log[..]).unwrap().unwrap();
        builder.scan(&log, from);
        assert_eq!(builder.largest.0, 90);
        let (offsets, times) = builder.into_indexes();
        let found = times.locate(&offsets, &log[..], 15).unwrap().map(|(position, _)| position);
        assert_eq!(found, Some(0));
    }

    #[test]
    fn an_offset_index_of_another_log_is_not_continued() {
        let log: Vec<u8> = (0..9).flat_map(|i| batch(i, 1, i, 100)).collect();
        let other: Vec<u8> = (0..9).flat_map(|i| batch(i, 1, i, 50)).collect();
        let (offsets, times, _) = rebuild(&other, 0, 0);
        let resumed = IndexBuilder::resume(offsets.clone(), times.clone(), 0, &log[..]);
        assert!(resumed.unwrap().is_none());
        assert!(IndexBuilder::resume(offsets, times, 0, &[][..]).unwrap().is_none());
    }

    #[test]
    fn the_first_batch_gets_no_entry_and_records_without_time_no_time_entry() {
        let mut builder = IndexBuilder::new(0, 10);
        assert!(!builder.on_batch(0, 0, 100, -1));
        assert!(builder.on_batch(1, 100, 100, -1));
        assert!(!builder.finish());
        assert_eq!((builder.offsets().len(), builder.times().len()), (1, 0));
        // No offset entry, so no last time entry.
        let mut builder = IndexBuilder::new(0, 100);
        assert!(!builder.on_batch(0, 0, 100, 5));
        assert!(!builder.finish());
        // Not above the interval, so no entry.
        let mut builder = IndexBuilder::new(0, 100);
        assert!(!builder.on_batch(0, 0, 100, 5));
        assert!(!builder.on_batch(1, 100, 1, 5));
        assert!(builder.on_batch(2, 101, 1, 5));
        assert!(!builder.finish());
        assert_eq!(builder.times().last(), Some((5, 0)));
    }

    #[test]
    fn indexes_are_rebuilt_up_to_the_damage() {
        let good: Vec<u8> = (0..50).flat_map(|i| batch(i, 1, 10 * i, 100)).collect();
        let torn = [&good[..], &batch(50, 1, 0, 100)[..99]].concat();
        let position = good.len() as u64;
        let (offsets, times, end) = rebuild(&torn, 0, 1000);
        assert_eq!(end, WalkEnd::Torn { position });
        assert_eq!((offsets, times, WalkEnd::Clean), rebuild(&good, 0, 1000));
    }

    proptest! {
        #[test]
        fn every_offset_is_found_whatever_the_spacing(
            batches in proptest::collection::vec((1_i32..4, 0_i64..3, -1_i64..50, 0_usize..60), 0..40),
            interval in 0_u64..600,
        ) {
            let mut log = Vec::new();
            let mut next = 1000;
            let mut all = Vec::new();
            for (count, gap, timestamp, value) in batches {
                next += gap;
                all.push((log.len() as u64, next, next + i64::from(count), timestamp));
                log.extend(batch(next, count, timestamp, value));
                next += i64::from(count);
            }
            let (offsets, times, end) = rebuild(&log, 1000, interval);
            prop_assert_eq!(end, WalkEnd::Clean);
            let parsed = OffsetIndex::parse(&offsets.encode_from(0).0, 1000, log.len() as u64);
            prop_assert_eq!(parsed.as_ref(), Ok(&offsets));
            let parsed = TimeIndex::parse(&times.encode_from(0).0, 1000, next);
            prop_assert_eq!(parsed.as_ref(), Ok(&times));
            for offset in 1000..=next {
                let expected = all.iter().find(|batch| batch.2 > offset).map(|batch| batch.0);
                let found = offsets.locate(&log[..], offset).unwrap().map(|(position, _)| position);
                prop_assert_eq!(found, expected);
            }
            for timestamp in 0..51 {
                let expected = all.iter().find(|batch| batch.3 >= timestamp).map(|batch| batch.0);
                let found = times.locate(&offsets, &log[..], timestamp).unwrap().map(|found| found.0);
                prop_assert_eq!(found, expected);
            }
        }
    }
}
