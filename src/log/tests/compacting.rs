//! Passes of compaction, and what happens beside them.

use super::*;
use crate::log::compaction::{Compacted, CompactionJob, Pace};

/// Does something once, in the middle of a pass. The pass holds no lock then.
struct Once<F: FnOnce() + Send>(Mutex<Option<F>>);

impl<F: FnOnce() + Send> Pace for Once<F> {
    fn spend(&self, _: u64) {
        if let Some(act) = self.0.lock().take() {
            act();
        }
    }

    fn is_interrupted(&self) -> bool {
        false
    }
}

fn compact(log: &Log, meanwhile: impl FnOnce() + Send) -> Compacted {
    log.compact(&CompactionJob {
        now: Timestamp::from_millis(1),
        map_bytes: 1 << 20,
        hash_key: [0; 16],
        forced: true,
        keep_free: 0,
        pace: &Once(Mutex::new(Some(meanwhile))),
    })
    .unwrap()
}

/// The log start passes the first of two segments that a pass joins, and a checkpoint captures the second one. Once
/// the checkpoint is durable, everything below the second one is removed.
#[test]
fn a_pass_does_not_join_deleted_segments_to_others() {
    let world = World::of(&[2, 2, 2], 100);
    let log = world.log();
    let captured = Mutex::new(None);
    let ended = compact(&log, || {
        log.delete_records(20, |_| Ok(())).unwrap();
        log.lock_for_checkpoint().freeze();
        *captured.lock() = Some(log.capture().unwrap().whole());
    });
    assert_eq!(ended, Compacted::Interrupted);
    let segments: Vec<_> = captured.lock().take().unwrap().segments.into_iter().skip(1).collect();
    assert_eq!(segments[0].base_offset, 20);
    log.checkpointed(&LogImage {
        start_offset: 20,
        end_offset: 60,
        epochs: vec![(EPOCH, 0)],
        segments,
        first_dirty_offset: None,
    });
    let mut fetched = Fetched::default();
    let limits = FetchLimits { records: 100, bytes: 1 << 20, until: i64::MAX };
    log.fetch(&mut Cursor::new(20), 0, limits, &mut fetched).unwrap();
    assert_eq!(fetched.records.len(), 40);
}

/// A topic that is no longer compacted keeps what no pass has removed yet.
#[test]
fn a_changed_setting_ends_a_pass() {
    let world = World::of(&[2, 2, 2], 100);
    let log = world.log();
    let ended = compact(&log, || log.alter(&Arc::new(TopicConfig::new().segment_bytes(5000))));
    assert_eq!(ended, Compacted::Interrupted);
    assert!(log.segment_ids().iter().all(|id| id.generation == 0));
}
