use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::input::Input;
use crate::group::share::{
    AckType, Acknowledgement, Contents, Decision, Item, MemberNumber, Now, Read, ReadBatch,
    ReadRecord, Reservation, Section, SharePartition, ShareSettings, Span, State, Take, To,
};
use crate::types::{Backoff, ShareOrdering};

/// How many records all sections together may delay: a fuzzer need not track millions.
const DELAYED_MAX: u64 = 1_000;
const MEMBER: MemberNumber = MemberNumber(1);
/// After the end of every lock.
const LATE: Now = Now { monotonic: Duration::MAX, wall: 5 };

/// Takes any bytes as the image of a share-partition, and as sections that are applied to it. They are refused, or the
/// invariants hold after each, the sections encode to the same bytes and the state to an image that decodes to it.
pub fn fuzz_share_state(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let settings = Arc::new(settings(flags));
    let len = usize::from(input.u16());
    let decoded = SharePartition::decode(input.bytes(len), Arc::clone(&settings));
    let mut partition = decoded.unwrap_or_else(|_| SharePartition::new(Arc::clone(&settings), 0));
    check(&partition, &settings);
    let mut delayed = 0;
    while !input.rest.is_empty() {
        let len = usize::from(input.u8());
        let bytes = input.bytes(len);
        let Ok(section) = Section::decode(bytes) else { continue };
        let mut encoded = Vec::new();
        section.encode(&mut encoded);
        assert_eq!(encoded, bytes);
        delayed += section.items().iter().map(delays).sum::<u64>();
        if delayed > DELAYED_MAX {
            break;
        }
        apply(&mut partition, &section);
        check(&partition, &settings);
    }
    partition.opened();
    check(&partition, &settings);
    end_locks(&mut partition);
    check(&partition, &settings);
    for _ in 0..4 {
        work(&mut partition, flags & 1 != 0);
        check(&partition, &settings);
    }
}

fn settings(flags: u8) -> ShareSettings {
    let base = Duration::from_secs(u64::from(flags >> 1 & 1));
    ShareSettings {
        ordering: if flags & 1 != 0 { ShareOrdering::Key } else { ShareOrdering::None },
        backoff: Backoff { base, ..Backoff::NONE },
        delivery_count_limit: u16::from(flags >> 2 & 7) + 1,
        ..ShareSettings::default()
    }
}

fn delays(item: &Item) -> u64 {
    match item {
        Item::Set(span, To::Delayed { .. }) => span.len(),
        _ => 0,
    }
}

/// Applies a section. The start falls by a reset alone (H7), and a section that names no record twice may be applied
/// again.
fn apply(partition: &mut SharePartition, section: &Section) {
    let (start, epoch) = (partition.start(), partition.epoch());
    partition.apply(section, Duration::ZERO);
    let mut spans = Vec::new();
    for item in section.items() {
        match item {
            Item::Set(span, _) => spans.push(*span),
            Item::LogStart(_) => {}
            Item::Reset { .. } => return,
        }
    }
    assert!(partition.start() >= start, "H7: the start falls");
    assert_eq!(partition.epoch(), epoch);
    spans.sort_unstable_by_key(|span| span.first);
    if spans.windows(2).all(|pair| matches!(pair, [a, b] if a.last < b.first)) {
        let before = image(partition);
        partition.apply(section, Duration::ZERO);
        assert_eq!(image(partition), before, "applied again, it changes something");
    }
}

fn image(partition: &SharePartition) -> Vec<u8> {
    let mut image = Vec::new();
    partition.encode(&mut image);
    image
}

fn check(partition: &SharePartition, settings: &Arc<ShareSettings>) {
    partition.check_structure();
    let stored = image(partition);
    let again = SharePartition::decode(&stored, Arc::clone(settings)).expect("it was encoded");
    again.check_structure();
    assert_eq!(image(&again), stored);
    assert_eq!(again.lag(i64::MAX, 5).total, partition.lag(i64::MAX, 5).total);
    assert_eq!(known(&again), known(partition));
    assert_eq!(again.oldest_unfinished(), partition.oldest_unfinished());
    assert!(partition.oldest_unfinished() <= partition.start());
}

/// What outlives the process: spans with their state and count, joined. Who was last in the window and untouched is
/// left out, since it is read again.
fn known(partition: &SharePartition) -> Vec<(Span, State, u16)> {
    let mut known: Vec<(Span, State, u16)> = Vec::new();
    let mut add = |span: Span, state, count| match known.last_mut() {
        Some((before, of, with))
            if before.last + 1 == span.first && (*of, *with) == (state, count) =>
        {
            before.last = span.last;
        }
        _ => known.push((span, state, count)),
    };
    let start = partition.start();
    // Records below the start that nobody has begun with are parked again.
    let reserved = partition.under_way(0).filter(|held| held.span.last < start);
    let (reserved, acquired): (Vec<_>, Vec<_>) =
        reserved.partition(|held| held.state == State::Reserved);
    let reserved = reserved
        .iter()
        .flat_map(|held| (held.span.first..=held.span.last).map(|offset| (offset, held.count)));
    let delayed = partition.delayed(0).map(|(offset, _, count, _)| (offset, count));
    let parked: BTreeMap<i64, u16> = reserved.chain(delayed).collect();
    for (offset, count) in parked {
        add(Span { first: offset, last: offset }, State::Parked, count);
    }
    for held in acquired {
        add(held.span, State::Acquired, held.count);
    }
    for (span, state, count, _) in partition.runs() {
        let waits = matches!(state, State::Reserved | State::Blocked);
        add(span, if waits { State::Available } else { state }, count);
    }
    known.pop_if(|(_, state, count)| *state == State::Available && *count == 0);
    known
}

fn end_locks(partition: &mut SharePartition) {
    let mut decision = Decision::default();
    while partition.decide_lock_ends(LATE, &mut || 7, &mut decision) {
        partition.apply(&decision.section, LATE.monotonic);
        decision.clear();
    }
    partition.check_nothing_held();
}

/// A member takes what there is and accepts every other record; the locks of the others end.
fn work(partition: &mut SharePartition, keyed: bool) {
    let now = Now { monotonic: Duration::from_secs(1), wall: 5 };
    let Some(fetch) = partition.begin_fetch(now) else { return };
    let (base, last) = (fetch.from, fetch.from.saturating_add(20).min(i64::MAX - 1));
    if last < base {
        return partition.cancel_fetch(fetch);
    }
    let records: Vec<_> = (base..=last)
        .map(|offset| ReadRecord { offset, key: Some(offset as u64 % 3), deliver_at: None })
        .collect();
    let contents = if keyed { Contents::Records(&records) } else { Contents::Dense };
    let batches = [ReadBatch { base, last, contents }];
    let mut got = Reservation::default();
    let take = Take { member: MEMBER, max: 10, changes: 10, now };
    assert!(partition.reserve(fetch, &Read { batches: &batches, end: last + 1 }, &take, &mut got));
    partition.apply(&got.noticed, now.monotonic);
    partition.check_structure();
    for delivery in &got.deliveries {
        for offset in delivery.span.first..=delivery.span.last {
            let span = Span { first: offset, last: offset };
            let mut decision = Decision::default();
            partition.decide_start(MEMBER, span, now, &mut decision).expect("it was reserved");
            partition.apply(&decision.section, now.monotonic);
            if offset % 2 == 1 {
                continue;
            }
            decision.clear();
            let said =
                Acknowledgement { span, delivery: Some(delivery.count), types: &[AckType::Accept] };
            partition
                .decide_acknowledge(MEMBER, &[said], now, &mut || 7, &mut decision, &mut Vec::new())
                .expect("it was started");
            partition.apply(&decision.section, now.monotonic);
        }
    }
    end_locks(partition);
}
