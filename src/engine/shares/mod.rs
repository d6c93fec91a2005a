//! Share groups of the engine: a lock around each share-partition, and signals that wake members. The pure state machine
//! is `group::share`.
//!
//! * **G1: decide, journal, apply.** Under the lock of its share-partition a change is decided, journaled as a section of
//!   one frame, and applied. Dead letters are records of the same frame ([`letters`]).
//! * **G2: locks.** `groups` of [`Shares`], then the settings of a group, its list of partitions, and share-partitions in
//!   the order of group and number. A freeze holds all of them; so no change lies across a checkpoint. Who creates a
//!   share-partition takes its lock before the list shows it. The failure that a share-partition keeps for `health` has a
//!   lock of its own, the last of all.
//! * **G3: no I/O under a lock** but the frame itself. Records are read under a fetch token, without the lock.
//! * **G4: nothing waits in secret.** Whatever can make a record available wakes the members that sleep ([`Signals`]).
//!   Time alone wakes nobody: members sleep until the next deadline. So a lock that has ended, or a delay, costs no
//!   thread, and counts when a member looks.
//!
//! Members live in this process and are not stored. What a member of an earlier process held comes again (H8).
//!
//! Imported by `state`, `frame`, `image`, `apply`, `checkpoint`, `recovery`, `snapshot`, `inspect`, `files` and `engine`.

mod admin;
mod batches;
mod change;
mod claim;
mod copies;
mod fetch;
mod freeze;
mod group;
mod image;
mod letters;
mod look;
mod origin;
mod progress;
mod signals;
mod state;
mod summary;
mod work;

pub(crate) use claim::ShareClaim;
pub(super) use claim::ShareLock;
pub(crate) use copies::{CopiedRecord, copy_record, copy_records};
pub(crate) use fetch::{ShareLimits, TakenRecords};
pub(crate) use group::{ShareGroup, SharePart, Shares};
pub(super) use image::{SHARE_IMAGE, decode_share_image};
pub(crate) use origin::Origin;
pub(crate) use progress::ShareProgress;
pub(crate) use state::{GroupSettings, ShareChange, ShareChangeKind, ShareStates};
pub use summary::{RecordUnderWay, ShareGroupSummary, SharePartitionSummary};
pub(crate) use work::{Said, ShareWork, Word};
