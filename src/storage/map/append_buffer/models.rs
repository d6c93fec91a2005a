//! Models of one writer and its readers, in every order and with every value that weak memory
//! allows.

use super::append_buffer;
use crate::sync::{check, spawn};

/// A1, A2: a reader that sees a length sees all records below it. The length never falls.
#[test]
fn readers_see_whole_records_in_order() {
    check(|| {
        let (mut writer, reader) = append_buffer(vec![0; 8].into(), 2);
        let reading = spawn(move || {
            let mut seen = 0;
            for _ in 0..2 {
                let published = reader.published();
                assert!(published.len() >= seen, "the published length fell");
                assert!(b"aabbcc".starts_with(published) && published.len() % 2 == 0);
                seen = published.len();
            }
        });
        for record in [b"aa", b"bb", b"cc"] {
            writer.spare()[..2].copy_from_slice(record);
            writer.publish(2);
        }
        reading.join().unwrap();
    });
}

/// A3, A4: a reader that sees the seal sees the prefix and the records.
#[test]
fn a_sealed_buffer_is_whole() {
    check(|| {
        let (mut writer, reader) = append_buffer(vec![0; 6].into(), 2);
        let reading = spawn(move || {
            let published = reader.published().to_vec();
            assert!(b"aabb".starts_with(&published) && published.len() % 2 == 0);
            assert!(reader.sealed().is_none_or(|all| all == b"HHaabb"));
        });
        for record in [b"aa", b"bb"] {
            writer.spare()[..2].copy_from_slice(record);
            writer.publish(2);
        }
        writer.seal(b"HH");
        reading.join().unwrap();
    });
}
