//! The transaction indexes that Kafka's own segment writer has written, found again from its batches.

use crate::producer_state::{AbortedTransaction, ControlBatch, ProducerStates};
use crate::record::{Batch, DEFAULT_MAX_DECOMPRESSED_BYTES};

/// Returns the entries of a `.txnindex` file: version (i16), producer, first, last and last stable offset (i64).
fn entries(index: &[u8]) -> Vec<AbortedTransaction> {
    let number =
        |entry: &[u8], at: usize| i64::from_be_bytes(entry[at..at + 8].try_into().unwrap());
    let entry = |entry: &[u8]| AbortedTransaction {
        producer_id: number(entry, 2),
        first_offset: number(entry, 10),
        last_offset: number(entry, 18),
        last_stable_offset: number(entry, 26),
    };
    index.chunks(34).map(entry).collect()
}

#[test]
fn the_index_of_kafka_is_found_again() {
    macro_rules! file {
        ($name:literal) => {
            &include_bytes!(concat!("../../../tests/vectors/partition/seg-0/", $name))[..]
        };
    }
    let mut states = ProducerStates::new(1);
    for (mut log, index) in [
        (file!("00000000000000005000.log"), file!("00000000000000005000.txnindex")),
        (file!("00000000000000005087.log"), file!("00000000000000005087.txnindex")),
    ] {
        let mut found = Vec::new();
        while !log.is_empty() {
            let batch = Batch::parse(log).unwrap();
            // The codecs of data batches may not be built in.
            let control = batch.header().attributes.is_control().then(|| {
                let payload = batch.decompressed(DEFAULT_MAX_DECOMPRESSED_BYTES).unwrap();
                ControlBatch::read(batch.header(), &payload).unwrap()
            });
            let completed = states.follow(batch.header(), control);
            found.extend(completed.and_then(|completed| completed.aborted));
            log = &log[batch.bytes().len()..];
        }
        assert!(!found.is_empty());
        assert_eq!(found, entries(index));
    }
}
