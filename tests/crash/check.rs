//! The checks on every state that a crash left.

use std::sync::Arc;

use grouplog::storage::{Crash, Memory};
use grouplog::time::SeededRandom;
use grouplog::{Acks, Broker, TopicConfig};

use crate::folder;
use crate::life::{End, Life, Setup, place};
use crate::observe::observe;
use crate::oracle::History;

/// Opens what a crash left and checks every promise. Returns how many changes were found. Consumes
/// the state.
///
/// I1, I2, I5: one prefix of all changes explains records, offsets and topics, and it contains
/// everything promised. I3, I4: see `observe`. I6: closed and opened again, the folder is the same
/// and clean. I7: the folder contains nothing else. I8: appends continue at the log end, and a
/// record acknowledged as `Synced` right after recovery survives the next power loss (hazard H8).
pub(crate) fn verify(
    memory: &Memory,
    setup: Setup,
    history: &History,
    promised: usize,
) -> Result<usize, String> {
    verify_all(memory, setup, history, promised).map_err(|end| match end {
        End::Violation(what) => what,
        End::Crash => "a crash that nobody asked for".to_owned(),
    })
}

fn verify_all(
    memory: &Memory,
    setup: Setup,
    history: &History,
    promised: usize,
) -> Result<usize, End> {
    let mut life = Life::begin(memory, setup, &mut history.clone(), promised, 100)?;
    let found = life.found;
    let tidy = folder::check(memory, &life.broker, setup.files);
    append_everywhere(&mut life)?;
    let lost = memory.crash(Crash::LoseAll, &SeededRandom::new(0));
    let mut history = life.history.clone();
    life.kill();

    let all = history.attempted();
    let mut life = Life::begin(&lost, setup, &mut history, all, 101)?;
    // Reported last: a loss is more important than a leftover.
    tidy.map_err(End::Violation)?;
    folder::check(&lost, &life.broker, setup.files).map_err(End::Violation)?;
    life.close()?;
    let expected = life.history.state().clone();
    drop(life);

    let read_only = Broker::open_storage_read_only(Arc::new(lost.clone()))
        .map_err(|error| End::Violation(format!("opening read-only fails: {error:?}")))?;
    let seen = observe(&read_only).map_err(End::Violation)?;
    if !expected.is(&seen) {
        return Err(End::Violation(format!("read-only shows {seen} instead of {expected}")));
    }
    let life = Life::begin(&lost, setup, &mut history, all, 102)?;
    let report = life.broker.recovery_report();
    let dirty = report.unclean || report.frames_replayed > 0 || report.segment_bytes_cut > 0;
    if dirty {
        return Err(End::Violation(format!("a closed folder needs repair: {report:?}")));
    }
    folder::check(&lost, &life.broker, setup.files).map_err(End::Violation)?;
    life.kill();
    Ok(found)
}

/// Sends one record to each partition, the last one `Synced`.
fn append_everywhere(life: &mut Life) -> Result<(), End> {
    let topics = life.history.state().topics.clone();
    if topics.is_empty() {
        life.create("after", &TopicConfig::new(), 1)?;
        return life.send(&place("after", 0), b"after".to_vec(), Acks::Synced);
    }
    let mut places: Vec<_> = topics
        .iter()
        .flat_map(|(topic, logs)| (0..logs.len()).map(|partition| place(topic, partition as u32)))
        .collect();
    let last = places.pop();
    for place in places {
        let value = life.value(24);
        life.send(&place, value, Acks::Written)?;
    }
    let Some(last) = last else { return Ok(()) };
    let value = life.value(24);
    life.send(&last, value, Acks::Synced)
}
