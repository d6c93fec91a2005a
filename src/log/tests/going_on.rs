//! Appending to an existing segment. Nothing is appended after damage, however often that is tried.

use std::io::ErrorKind;

use super::*;
use crate::log::write_out::{Incoming, Opens};

/// Creates a segment of some blocks with damage in the last block, which the next batch would extend.
fn damaged_at_its_end() -> World {
    let world = World::of(&[100], 100);
    let len = world.images[0].len;
    assert!(len > BLOCK_BYTES, "{len}");
    world.flip(0, Extension::Log, len - 1);
    world
}

#[test]
fn a_block_that_could_not_be_read_is_compared_at_the_next_attempt() {
    let mut failed = 0;
    for read in 1.. {
        let world = damaged_at_its_end();
        let log = world.log();
        let active = Arc::clone(&log.view().segments[0]);
        world.storage.fail_read_at(world.storage.reads() + read, ErrorKind::Other, false);
        match active.can_go_on() {
            Err(Error::Io { .. }) => failed += 1,
            first => {
                assert!(matches!(first, Ok(false)), "{first:?}");
                break;
            }
        }
        assert!(!active.can_go_on().unwrap(), "the block is damaged, read {read} failing or not");
    }
    assert!(failed >= 4, "{failed}");
}

#[test]
fn an_abandoned_segment_takes_no_batch_even_if_the_next_cannot_be_created() {
    for op in 1..=4 {
        let world = damaged_at_its_end();
        let log = world.log();
        let end = world.images[0].end_offset;
        let next = |log: &Log| {
            let mut out = log.out.lock();
            let batch = Incoming { bytes: 100, end_offset: end + 1, max_timestamp: 2000 };
            let next = log.segment_for(&mut out, end, &batch, Opens::More);
            next.map(|segment| segment.unwrap().base_offset())
        };
        world.storage.fail_at(world.storage.ops() + op, ErrorKind::Other, true);
        let failed = next(&log);
        world.storage.heal();
        assert!(failed.is_err() || op > 1, "{failed:?}");
        assert_eq!(next(&log).unwrap(), end, "change {op} failed");
    }
}
