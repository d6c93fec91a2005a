//! The named owners: a program's lasting identities as a producer, each with its epoch and its last sequence.
//! Pure, and only applying journaled changes modifies it.
//!
//! * **O1** The epoch of an owner never falls. Only the handle with the newest epoch writes under the name.
//! * **O2** The last sequence of an owner never falls, and a new epoch keeps it. The frame that raises it holds
//!   the records that it stands for.
//!
//! A section of the journal has this form, with big-endian numbers. A checkpoint stores a count (u32), and then
//! name, epoch and sequence of each owner, by name.
//!
//! | size | type | field |
//! |---|---|---|
//! | 1 | u8 | kind: 1 = the owner is set, 2 = it is deleted |
//! | 4 + n | text | the name (`transactional.id`): its length in bytes (u32), and UTF-8 |
//! | 4 | i32 | kind 1: its epoch, from 0 |
//! | 8 | i64 | kind 1: its last sequence; -1 if it has none |

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::codec::{Decoder, Encoder};
use crate::error::{CorruptReason, Unreadable};
use crate::types::planted;

/// A named owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) epoch: i32,
    pub(crate) last_sequence: Option<i64>,
}

/// The named owners of a folder. Each name is one string from its registration until it is deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owners(BTreeMap<Arc<str>, Owner>);

/// A journaled change of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnerChange {
    pub(crate) id: Arc<str>,
    /// `None` if it is deleted.
    pub(crate) owner: Option<Owner>,
}

const KIND_SET: u8 = 1;
const KIND_DELETED: u8 = 2;
/// The smallest size of an owner in a checkpoint, in bytes.
const LEAST_BYTES: usize = 4 + 1 + 4 + 8;

impl Owners {
    pub(crate) fn get(&self, id: &str) -> Option<Owner> {
        self.0.get(id).copied()
    }

    /// Returns the string of a name, if it is registered.
    pub(super) fn known(&self, id: &str) -> Option<Arc<str>> {
        self.0.get_key_value(id).map(|(known, _)| Arc::clone(known))
    }

    /// Returns the owner of a name, unless the name was deleted since it was this string.
    pub(super) fn get_same(&self, id: &Arc<str>) -> Option<Owner> {
        let (known, owner) = self.0.get_key_value(id)?;
        let same = Arc::ptr_eq(known, id) || planted("taken_name_not_fenced");
        same.then_some(*owner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the owners by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Owner)> {
        self.0.iter().map(|(id, owner)| (id, *owner))
    }

    pub(crate) fn apply(&mut self, change: &OwnerChange) {
        match change.owner {
            Some(owner) => self.0.insert(Arc::clone(&change.id), owner),
            None => self.0.remove(&change.id),
        };
    }

    /// Appends the owners, for a checkpoint.
    pub(in crate::engine) fn encode(&self, out: &mut Encoder) {
        out.count(self.0.len());
        for (id, owner) in &self.0 {
            out.text(id);
            encode_owner(out, *owner);
        }
    }

    /// Reads what [`Owners::encode`] wrote.
    pub(in crate::engine) fn decode(input: &mut Decoder<'_>) -> Result<Self, CorruptReason> {
        let mut owners = BTreeMap::new();
        for _ in 0..input.count(LEAST_BYTES)? {
            let (id, owner) = (input.group_name()?, decode_owner(input)?);
            if owners.insert(id, owner).is_some() {
                return Err(CorruptReason::Field);
            }
        }
        Ok(Self(owners))
    }
}

impl OwnerChange {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.u8(if self.owner.is_some() { KIND_SET } else { KIND_DELETED });
        out.text(&self.id);
        if let Some(owner) = self.owner {
            encode_owner(&mut out, owner);
        }
        out.out
    }

    /// Decodes a section that fills `body`. The frame's checksum is right, so an unknown kind comes from a newer
    /// version of grouplog.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, Unreadable> {
        let mut input = Decoder::new(body);
        let kind = input.kind("owner section kind", KIND_DELETED)?;
        let id = input.group_name()?;
        let owner = if kind == KIND_SET { Some(decode_owner(&mut input)?) } else { None };
        input.finish()?;
        Ok(Self { id, owner })
    }
}

fn encode_owner(out: &mut Encoder, owner: Owner) {
    out.i32(owner.epoch);
    out.i64(owner.last_sequence.unwrap_or(NO_SEQUENCE));
}

fn decode_owner(input: &mut Decoder<'_>) -> Result<Owner, CorruptReason> {
    let (epoch, sequence) = (input.i32()?, input.i64()?);
    if epoch < 0 || sequence < NO_SEQUENCE {
        return Err(CorruptReason::Field);
    }
    Ok(Owner { epoch, last_sequence: (sequence != NO_SEQUENCE).then_some(sequence) })
}

const NO_SEQUENCE: i64 = -1;

#[cfg(test)]
mod tests {
    use super::*;

    fn set(id: &str, epoch: i32, last_sequence: Option<i64>) -> OwnerChange {
        OwnerChange { id: id.into(), owner: Some(Owner { epoch, last_sequence }) }
    }

    #[test]
    fn sections_and_images_come_back_as_they_were() {
        let mut owners = Owners::default();
        for change in [
            set("importer", 0, None),
            set("importer", 7, Some(0)),
            set("b", i32::MAX, Some(i64::MAX)),
            OwnerChange { id: "b".into(), owner: None },
            set("\u{e4}", 3, Some(9)),
        ] {
            assert_eq!(OwnerChange::decode(&change.encode()), Ok(change.clone()));
            owners.apply(&change);
        }
        assert_eq!(owners.iter().count(), 2);
        let importer = owners.get("importer").unwrap();
        assert_eq!((importer.epoch, importer.last_sequence), (7, Some(0)));
        let mut out = Encoder::default();
        owners.encode(&mut out);
        assert_eq!(Owners::decode(&mut Decoder::new(&out.out)), Ok(owners));
    }

    #[test]
    fn every_cut_and_every_wrong_field_is_refused() {
        let bytes = set("importer", 7, Some(5)).encode();
        for end in 0..bytes.len() {
            assert!(OwnerChange::decode(&bytes[..end]).is_err(), "{end}");
        }
        let mut long = bytes.clone();
        long.push(0);
        assert_eq!(OwnerChange::decode(&long), Err(CorruptReason::Length.into()));
        for (at, byte, error) in [
            (0, 0, CorruptReason::Field.into()),
            (0, 3, Unreadable::unsupported("owner section kind", 3_u8, 2_u8)),
            (5, b'\n', CorruptReason::Field.into()),
            (13, 0x80, CorruptReason::Field.into()), // the epoch
            (17, 0x80, CorruptReason::Field.into()), // the sequence
        ] {
            let mut wrong = bytes.clone();
            wrong[at] = byte;
            assert_eq!(OwnerChange::decode(&wrong), Err(error), "{at}");
        }
        let twice = {
            let mut out = Encoder::default();
            out.count(2);
            for _ in 0..2 {
                out.text("a");
                encode_owner(&mut out, Owner { epoch: 0, last_sequence: None });
            }
            out.out
        };
        assert_eq!(Owners::decode(&mut Decoder::new(&twice)), Err(CorruptReason::Field));
    }
}
