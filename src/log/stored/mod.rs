//! Stored appends: large appends write their records into the segment at once, and journal only where they
//! are.
//!
//! A small append costs least if its bytes go to the journal alone and a batch of many appends goes to the
//! segment later. For a large append, the second copy costs more than anything else. So its records go to the
//! segment first. Then the frame gets a *stored* section ([`StoredSection`]): the images of the segments that
//! changed since the last such section. It says that the segments hold everything of the partition below its
//! end.
//!
//! These invariants hold:
//!
//! * **S1** The bytes are complete in the file before the frame is journaled. Readers see them only after
//!   that (L1). The bytes of a refused frame lie beyond the published length, where the next batch overwrites
//!   them.
//! * **S2** The frame counts as synced only when the segments' bytes and names are durable
//!   ([`journal::Outside`](crate::journal)).
//! * **S3** Recovery believes a stored section if its frame is known to be synced, or if the bytes have the
//!   checksums of the images. Otherwise power loss took some of the bytes, and recovery takes the frame for the
//!   torn end of the journal. So power loss still takes changes only from the end of the one order of all
//!   changes.
//! * **S4** Bytes that recovery believes by their checksums alone may be in the cache of the system only, and an
//!   earlier sync of them may have failed. They are written again before a checkpoint lists them, as all
//!   replayed bytes are (hazard H8).
//! * **S5** What a section refers to is never cut. Opening cuts a segment only behind the last section that it
//!   believes.
//! * **S6** Nothing is stored after the journal has stopped appends: the folder may belong to its next writer.
//!   The close waits for an append that is being stored.
//!
//! A partition holds its write-out lock and its append lock while it stores an append. No other partition
//! waits, and no other lock is held over the write.

mod claims;
mod debt;
mod section;

pub(super) use claims::{Adopted, Claim, Described, Proof};
pub(crate) use debt::StoredDebt;
pub(super) use section::MAX_IMAGES;
pub(crate) use section::{STORED_SECTION_BOUND, StoredSection};
