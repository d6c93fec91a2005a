//! The acknowledgements of a child.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::work::{Ack, is_synced};

/// Acknowledged records and commits.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Thread, number and partition of a record, and its offset.
    pub(crate) records: BTreeMap<(u64, u64, u32), i64>,
    /// The last committed offset of each partition.
    pub(crate) commits: BTreeMap<u32, i64>,
    /// Why the child ended its work, unless it was killed at work.
    pub(crate) failed: Option<String>,
}

impl Told {
    /// Reads until the child has ended. What is read while `counts` is false is no acknowledgement.
    pub(crate) fn read(pipe: impl Read, counts: &AtomicBool) -> Self {
        let mut told = Self::default();
        let mut lines = BufReader::new(pipe).split(b'\n');
        while let Some(line) = lines.next() {
            let line = String::from_utf8(line.unwrap()).unwrap();
            let counts = counts.load(Ordering::SeqCst);
            let mut words = line.split(' ');
            let kind = words.next().unwrap();
            let numbers: Option<Vec<i64>> = words.map(|word| word.parse().ok()).collect();
            match (kind, numbers.as_deref()) {
                ("r", Some(&[thread, number, partition, offset])) if counts => {
                    told.records.insert((thread as u64, number as u64, partition as u32), offset);
                }
                ("c", Some(&[partition, offset])) if counts => {
                    told.commits.insert(partition as u32, offset);
                }
                ("e", _) => told.failed = Some(line),
                // Nor is a partial line.
                ("r" | "c", _) => {}
                _ => {
                    let rest =
                        lines.map(|line| String::from_utf8_lossy(&line.unwrap()).into_owned());
                    let rest: Vec<String> = rest.take(9).collect();
                    panic!("the child says: {line}{}", rest.join("\n"));
                }
            }
        }
        told
    }

    pub(crate) fn add(&mut self, ack: Ack) {
        match ack {
            Ack::Record { thread, number, partition, offset } => {
                self.records.insert((thread, number, partition), offset);
            }
            Ack::Commit { partition, offset } => {
                self.commits.insert(partition, offset);
            }
        }
    }

    /// Drops what power loss may take: commits are `Written`.
    pub(crate) fn keep_synced(&mut self) {
        self.records.retain(|&(thread, _, _), _| is_synced(thread));
        self.commits.clear();
    }

    pub(crate) fn count(&self) -> u64 {
        self.records.len() as u64
    }
}
