//! The disk budget: an upper limit for the space that the files of a folder take, exact at every moment.
//!
//! [`Metered`] is a storage that counts the blocks of every file in a [`Ledger`]. An append asks the ledger
//! before it takes a buffer. Code and tests cite these invariants by number:
//!
//! * **B1** The blocks of all files in the folder never exceed the budget. What grows a file is counted before
//!   the call, and what shrinks or removes one after it. A call that would exceed the budget fails as on a full
//!   disk, with `DiskFull`, before anything is changed. B3 to B5 see to it that this does not happen.
//! * **B2** The count is never below what the file system reports. Each file takes whole blocks of 4 KiB. A file of
//!   more than four has one more, because ext4 may keep the list of its pieces in a block of its own. Folders
//!   and other metadata of the file system do not count.
//! * **B3** Before an append takes a buffer, it charges what the buffer may need on the disk: its bytes, a new
//!   segment with its side files, and the files of a new partition. The charge ends when the batch is in the
//!   segment, whose blocks are counted by then. An append that gets no charge is refused, and leaves no trace.
//! * **B4** Commits, deletions, checkpoints, write-out and recovery never ask. Their space is set aside: journal
//!   and reserve count as large as they may become, a segment counts the side files that it has yet to write,
//!   and a 64th of the budget is kept for checkpoints and offset files. Frozen batches have their charges.
//! * **B5** Space ahead of a segment's end is asked for too. It is granted only in part, or not at all, if that
//!   would take room from appends. All segments together have at most a 64th of the budget of it.
//! * **B6** A refused append releases all its locks before it waits for room or deletes for it.
//! * **B7** A folder that takes more than the budget when it is opened is no error: the budget may be a new one.
//!   Appends are refused, and everything else works, without the limit of B1 until the folder is below it.
//!
//! A removed file counts no more once its name is gone, although a reader may hold its space for a while longer.
//!
//! Imported by `storage`.

mod files;
mod ledger;
mod metered;
#[cfg(test)]
mod tests;

pub(crate) use ledger::{Account, Charge, Ledger};
pub(crate) use metered::Metered;
