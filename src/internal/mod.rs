//! The bodies of the fuzz targets in `fuzz/`. Each takes any bytes and panics if an invariant does not hold.
//! Private parts of the crate are accessible here, so a target is a few lines.
//!
//! Checksums would keep a fuzzer out of everything behind them, so most bodies can put right ones in.
//!
//! Imported by no other module.

#![allow(clippy::panic, reason = "an invariant that does not hold ends the run")]

mod batch;
mod cleaner;
mod decompress;
mod dedup;
mod folder;
mod image;
mod index;
mod input;
mod journal;
mod mutate;
mod names;
mod ops;
mod partition;
mod segment;
mod share;

pub use batch::fuzz_batch_decode;
pub use cleaner::fuzz_cleaner;
pub use decompress::fuzz_decompress;
pub use dedup::fuzz_dedup_load;
pub use folder::{fuzz_checkpoint_load, fuzz_open_dir};
pub use image::fuzz_offsets_load;
pub use index::fuzz_index_load;
pub use journal::fuzz_journal_replay;
pub use mutate::fuzz_batch_mutate;
pub use names::fuzz_names;
pub use ops::fuzz_ops_vs_model;
pub use segment::fuzz_segment_recover;
pub use share::fuzz_share_state;

#[cfg(test)]
mod tests {
    //! Runs the seeds of `fuzz/corpus` and inputs that once failed, as tests that run everywhere.

    use std::path::Path;

    fn run_all(target: &str, body: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        // A packaged crate does not contain the seeds.
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            #[expect(clippy::disallowed_methods, reason = "seeds are not files of the engine")]
            body(&std::fs::read(path).unwrap());
        }
    }

    #[test]
    fn all_seeds_hold_their_invariants() {
        run_all("batch_decode", super::fuzz_batch_decode);
        run_all("segment_recover", super::fuzz_segment_recover);
        run_all("journal_replay", super::fuzz_journal_replay);
        run_all("index_load", super::fuzz_index_load);
        run_all("offsets_load", super::fuzz_offsets_load);
        run_all("batch_mutate", super::fuzz_batch_mutate);
        run_all("decompress", super::fuzz_decompress);
        run_all("dedup_load", super::fuzz_dedup_load);
        run_all("names", super::fuzz_names);
        run_all("checkpoint_load", super::fuzz_checkpoint_load);
        run_all("open_dir", super::fuzz_open_dir);
        run_all("ops_vs_model", super::fuzz_ops_vs_model);
        run_all("cleaner", super::fuzz_cleaner);
        run_all("share_state", super::fuzz_share_state);
    }
}
