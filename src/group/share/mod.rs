//! Share groups: a queue on top of a partition (Kafka's KIP-932). Many members work on the records of one partition,
//! each record is acknowledged alone, and what was not accepted comes again.
//!
//! Everything in this folder is pure: no files, no clock, no threads, no locks. The shell above keeps one
//! [`SharePartition`] for each group and partition in a lock, reads records outside of it, and passes the time in.
//!
//! The life of a record:
//!
//! ```text
//!                 reserve            start              accept            -> Acknowledged
//! not read  -> Available -> Reserved -> Acquired (count + 1) --- reject, limit -> Archived (dead letter)
//!                 ^  ^         |           |
//!                 |  +---------+-----------+  release, lock end, session end
//!                 +- Parked <--------------+  the same with a delay
//! ```
//!
//! **Decide, journal, apply.** Whatever a later process must know is *decided* without a change (`&self`) into the
//! [`Section`] of a [`Decision`]; the caller journals the section, together with records and dead letters in the same
//! frame; then [`SharePartition::apply`] makes the change. It cannot fail, and replay calls the same function. What
//! only this process needs (a reservation, a renewed lock, the token of a fetch) changes at once and is not journaled.
//!
//! Terms: the *window* runs from the start (Kafka's SPSO) to the end (SPEO); a *run* is a span of offsets that agree in
//! all that is known of them; *parked* records wait for a time, and the window need not wait for them.
//!
//! Code and tests cite these invariants by number:
//!
//! * **H1** The runs of the window cover it without gap or overlap. Neighbours differ, so memory follows the number of
//!   runs. An empty window ends just before its start.
//! * **H2** Below the start each offset is finished, is parked, or has a run among those *outside*: it was parked, came
//!   back and is under way. The first offset of the window is neither finished nor parked.
//! * **H3** A finished record stays finished: nothing leads out of Acknowledged and Archived but a reset.
//! * **H4** A record has at most one owner. A lock ends at its time, not when somebody looks: from then on the owner's
//!   word is refused, whether or not [`SharePartition::decide_lock_ends`] was called.
//! * **H5** The count is raised by a start, which is journaled before the record reaches a handler. So a record that
//!   kills the process is counted, and one that was merely reserved is not. It falls only by a release that says
//!   nothing was tried (`Snooze`, `Undelivered`).
//! * **H6** The limit is looked at when an attempt ends. A record becomes a dead letter when it is rejected, or when an
//!   attempt ends at the limit; never because it is gone (log start, compaction, aborted), cancelled, or a gap.
//! * **H7** The start never falls, except by a reset. Each offset that it passes is finished or parked by a journaled
//!   section or the log start, so replay finds the same start.
//! * **H8** A stored Acquired means: available with this count, or a dead letter at the limit. So the end of a lock needs
//!   no frame as long as it makes the record available; and on open each lock has ended.
//! * **H9** A delayed record is handed out when its time has come, never before; a wall clock that goes back does not take
//!   that back. Finding a record that is due takes O(log n).
//! * **H10** With `share.ordering=key`, at most one record of a key is under way or waits for its backoff, and it is the
//!   first unfinished one. Keys are known by hash; a collision only makes two keys wait for each other. A record that was
//!   scheduled for later does not hold up its key until it is due, and then comes before others that were not tried yet.
//! * **H11** Decoding and applying never panic, whatever the bytes are, and allocate no more than the bytes warrant.
//!
//! What the caller does, under the lock of the share-partition except where said:
//!
//! | when | calls |
//! |---|---|
//! | a member wants records | [`begin_fetch`](SharePartition::begin_fetch); read the log (without the lock); [`reserve`](SharePartition::reserve); journal and apply what it noticed |
//! | a record reaches a handler | [`decide_start`](SharePartition::decide_start), journal, apply; several and acknowledgements in one frame |
//! | a handler is done | [`decide_acknowledge`](SharePartition::decide_acknowledge), journal with dead letters, apply |
//! | a handler takes longer | [`renew`](SharePartition::renew) |
//! | a deadline passes ([`next_deadline`](SharePartition::next_deadline)), and at open | [`decide_lock_ends`](SharePartition::decide_lock_ends), journal, apply; if the journal fails, [`Decision::keep_unstored`], apply |
//! | a member leaves | [`decide_session_end`](SharePartition::decide_session_end), journal, apply |
//! | the log start moves | [`Section::log_start`], apply (the journal has it already) |
//! | replay | [`decode`](SharePartition::decode) the checkpoint's image, [`Section::decode`] and apply each section, [`opened`](SharePartition::opened) |

mod acknowledge;
mod acquire;
mod apply;
mod batch;
mod bytes;
mod decision;
mod describe;
mod ends;
mod fetch;
mod hand_out;
mod image;
mod initial;
#[cfg(any(test, feature = "__internal"))]
mod invariants;
mod keyed;
#[cfg(test)]
mod ledger;
mod locks;
mod notice;
mod order;
mod parked;
mod partition;
mod reason;
mod refusal;
mod run;
mod runs;
mod section;
mod settings;
mod start;
mod taking;
mod throttle;

#[cfg(test)]
mod measure;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub(crate) use acknowledge::{AckType, Acknowledgement};
pub(crate) use batch::{Contents, Read, ReadBatch, ReadRecord};
pub(crate) use decision::{DeadLetter, Decision};
pub(crate) use describe::ByHand;
pub(crate) use fetch::Fetch;
pub(crate) use initial::initial_start;
pub(crate) use partition::{Now, SharePartition};
pub(crate) use refusal::{Refusal, Why};
pub(crate) use run::{MemberNumber, Span, State};
pub(crate) use section::{Item, Section, To};
pub(crate) use settings::ShareSettings;
pub(crate) use taking::{Delivery, Reservation, Take};
