use std::sync::Arc;

use super::*;
use crate::config::ShareGroupConfig;
use crate::engine::codec::Encoder;
use crate::engine::shares::state::tests::{flipped, sections, settings};
use crate::engine::shares::state::{encode_group, encode_partition};
use crate::engine::shares::{GroupSettings, ShareChange, ShareChangeKind};
use crate::error::{CorruptReason, Error};
use crate::group::share::{Section, SharePartition};
use crate::types::PartitionNumber;

const ID: [u8; 16] = [7; 16];

/// Two groups: one with two partitions, the other one paused, with all settings and none.
fn states() -> ShareStates {
    let mut states = ShareStates::default();
    let mut apply = |group: &str, kind| {
        states.apply(ShareChange { group: group.into(), kind }).unwrap();
    };
    let plain = GroupSettings::new(ShareGroupConfig::new(), false);
    apply("busy", ShareChangeKind::Settings(plain));
    for section in sections() {
        apply("busy", ShareChangeKind::Partition(PartitionNumber(0), section));
    }
    apply("busy", ShareChangeKind::Partition(PartitionNumber(9), Section::log_start(1 << 40)));
    apply("paused", ShareChangeKind::Settings(settings()));
    states
}

/// The body of an image, as a checkpoint writes it.
fn body(states: &ShareStates) -> Vec<u8> {
    let mut out = Encoder::default();
    out.count(states.iter().count());
    for (name, state) in states.iter() {
        encode_group(name, &state.settings, state.partitions.len(), &mut out);
        for (number, partition) in &state.partitions {
            encode_partition(*number, partition, &mut out);
        }
    }
    out.out
}

fn image(body: &[u8]) -> Vec<u8> {
    [SHARE_IMAGE.header((1, body), ID, 5).0, body.to_vec()].concat()
}

fn decode(bytes: &[u8]) -> Result<(ImageHeader, ShareStates)> {
    decode_share_image(bytes, Path::new("shares.a"))
}

/// Returns why a body with a right checksum is refused.
#[track_caller]
fn refused(body: &[u8]) -> CorruptReason {
    match decode(&image(body)) {
        Err(Error::Corrupt(damage)) => {
            assert_eq!(damage.position, IMAGE_HEADER_BYTES as u64);
            damage.reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_decodes_to_what_was_encoded() {
    for states in [ShareStates::default(), states()] {
        let body = body(&states);
        let mut bytes = image(&body);
        // What an earlier, longer image has left.
        bytes.extend([0xa5; 99]);
        let (header, decoded) = decode(&bytes).unwrap();
        assert_eq!((header.directory_id, header.generation), (ID, 5));
        assert_eq!(header.crc, SHARE_IMAGE.header((1, &body), ID, 5).1);
        let settings = |states: &ShareStates| -> Vec<_> {
            states.iter().map(|(name, state)| (name.clone(), state.settings.clone())).collect()
        };
        assert_eq!(settings(&decoded), settings(&states));
        assert_eq!(self::body(&decoded), body);
    }
    let (_, decoded) = decode(&image(&body(&states()))).unwrap();
    let partition = &decoded.get("busy").unwrap().partitions[&PartitionNumber(0)];
    let under_way: Vec<_> = partition.under_way(0).map(|run| (run.span.first, run.count)).collect();
    assert_eq!(under_way, [(6, 3), (12, 400)]);
    let delayed: Vec<_> = partition.delayed(0).map(|(offset, due, ..)| (offset, due)).collect();
    let at =
        |offsets: [i64; 6]| offsets.map(|offset| (offset, if offset < 10 { 700 } else { 100 }));
    assert_eq!(delayed, at([5, 7, 8, 9, 10, 11]));
}

#[test]
fn every_cut_and_every_flipped_bit_is_damage() {
    let bytes = image(&body(&states()));
    for cut in 0..bytes.len() {
        assert!(matches!(decode(&bytes[..cut]), Err(Error::Corrupt(_))), "cut at {cut}");
    }
    for (bit, bytes) in flipped(&bytes).enumerate() {
        assert!(matches!(decode(&bytes), Err(Error::Corrupt(_))), "bit {bit}");
    }
}

#[test]
fn a_cut_body_with_right_checksums_is_refused() {
    let body = body(&states());
    for cut in 0..body.len() {
        refused(&body[..cut]);
    }
    assert_eq!(refused(&[&body[..], &[0]].concat()), CorruptReason::Length);
}

#[test]
fn a_flipped_bit_with_right_checksums_is_refused_or_borne() {
    let body = body(&states());
    let mut borne = 0;
    for flipped in flipped(&body) {
        match decode(&image(&flipped)) {
            Ok((_, states)) => {
                borne += 1;
                // It is written so that it can be read.
                let again = self::body(&states);
                let (_, same) = decode(&image(&again)).unwrap();
                assert_eq!(self::body(&same), again);
            }
            Err(Error::Corrupt(_) | Error::UnsupportedFormat { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!((100..body.len() * 8).contains(&borne), "{borne} of {}", body.len() * 8);
}

/// A group with these share-partitions: number, stated length, bytes.
fn group(name: &str, partitions: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let mut out = Encoder::default();
    let settings = GroupSettings::new(ShareGroupConfig::new(), false);
    encode_group(name, &settings, partitions.len(), &mut out);
    for (number, len, state) in partitions {
        out.u32(*number);
        out.u32(*len);
        out.bytes(state);
    }
    out.out
}

fn groups(count: u32, groups: &[Vec<u8>]) -> Vec<u8> {
    [count.to_be_bytes().to_vec(), groups.concat()].concat()
}

#[test]
fn wrong_fields_are_refused() {
    let mut state = Vec::new();
    SharePartition::new(Arc::default(), 3).encode(&mut state);
    let len = state.len() as u32;
    let of = |partitions: &[(u32, u32, &[u8])]| groups(1, &[group("g", partitions)]);
    assert!(decode(&image(&of(&[(0, len, &state), (1, len, &state)]))).is_ok());
    assert_eq!(refused(&of(&[(1, len, &state), (1, len, &state)])), CorruptReason::Field, "twice");
    let twice = [group("g", &[]), group("g", &[])];
    assert_eq!(refused(&groups(2, &twice)), CorruptReason::Field, "a group twice");
    assert_eq!(refused(&of(&[(0, len + 1, &state)])), CorruptReason::Count, "beyond the bytes");
    assert_eq!(refused(&of(&[(0, u32::MAX, &state)])), CorruptReason::Count);
    let _what_is_missing = refused(&of(&[(0, len - 1, &state)]));
    assert_eq!(refused(&of(&[(0, len + 1, &[&state[..], &[0]].concat())])), CorruptReason::Length);
    for count in [2, 100, u32::MAX] {
        let wrong = refused(&groups(count, &[group("g", &[])]));
        assert!(
            matches!(wrong, CorruptReason::Count | CorruptReason::Length),
            "{count}: {wrong:?}"
        );
    }
    assert_eq!(refused(&groups(0, &[group("g", &[])])), CorruptReason::Length);
    assert_eq!(refused(&groups(1, &[group("", &[])])), CorruptReason::Field, "no name");
}

#[test]
fn what_a_newer_version_could_write_is_not_damage() {
    let newer = |bytes: &[u8]| match decode(bytes) {
        Err(Error::UnsupportedFormat { what, found, max, .. }) => (what, found, max),
        other => panic!("{other:?}"),
    };
    let body = body(&states());
    let later = [SHARE_IMAGE.header((2, b"it"), ID, 5).0, b"it".to_vec()].concat();
    assert_eq!(newer(&later), ("format version".into(), 2, 1));
    let state = groups(1, &[group("g", &[(0, 1, &[2])])]);
    assert_eq!(newer(&image(&state)), ("share state version".into(), 2, 1));
    let at = body.windows(14).position(|bytes| bytes == b"share.ordering").unwrap();
    let mut other = body;
    other[at] = b'S';
    assert_eq!(newer(&image(&other)), ("share group setting".into(), 14, 14));
}
