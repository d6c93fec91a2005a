//! What a consumer with Kafka's acknowledgement modes owes: the records of its last poll, and what the program has said
//! about them. A model, for the worked cases: `ShareConsumer` has handles of records instead of the explicit mode.
//!
//! * **L1** In implicit mode the next poll or commit accepts all records of the last poll.
//! * **L2** In explicit mode a poll is refused while the program has said nothing about a record of the last one.
//! * **L3** Nothing is sent before poll, commit or close; until then the last word about a record counts.
//! * **L4** Records whose locks were renewed are returned again by the next poll, which brings nothing else.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::acknowledge::AckType;
use super::run::Span;

/// How records are acknowledged: Kafka's `share.acknowledgement.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum AckMode {
    /// By the next poll or commit.
    #[default]
    Implicit,
    /// Each by itself.
    Explicit,
}

/// What the program says about a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Accept,
    Release,
    Reject,
    Renew,
}

impl Said {
    /// Returns it as the share-partition hears it.
    pub(crate) fn as_type(&self) -> AckType<'static> {
        match self {
            Self::Accept => AckType::Accept,
            Self::Release => AckType::Release { delay: None, reason: None },
            Self::Reject => AckType::Reject,
            Self::Renew => AckType::Renew,
        }
    }
}

/// A call comes at the wrong time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IllegalState {
    /// Poll: records of the last one are not acknowledged (L2).
    Unacknowledged,
    /// Acknowledge: the mode is implicit.
    ImplicitMode,
    /// Acknowledge: the record was not in the last poll.
    NotInLastPoll,
}

/// Where a record is: partition and offset.
pub(crate) type Place = (u32, i64);

/// A word about a record that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToSend {
    pub(crate) place: Place,
    pub(crate) delivery: u16,
    pub(crate) said: Said,
}

#[derive(Debug, Clone)]
struct Owed {
    delivery: u16,
    said: Option<Said>,
}

/// The records of the last poll.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    mode: AckMode,
    owed: BTreeMap<Place, Owed>,
    /// Renewed: to be returned again.
    renewed: BTreeMap<Place, u16>,
}

impl Ledger {
    pub(crate) fn new(mode: AckMode) -> Self {
        Self { mode, ..Self::default() }
    }

    /// Adds records that a poll returns.
    pub(crate) fn delivered(&mut self, partition: u32, span: Span, delivery: u16) {
        for offset in span.first..=span.last {
            self.owed.insert((partition, offset), Owed { delivery, said: None });
        }
    }

    /// Takes note of a word about a record.
    pub(crate) fn say(&mut self, place: Place, said: Said) -> Result<(), IllegalState> {
        if self.mode == AckMode::Implicit {
            return Err(IllegalState::ImplicitMode);
        }
        let owed = self.owed.get_mut(&place).ok_or(IllegalState::NotInLastPoll)?;
        owed.said = Some(said);
        Ok(())
    }

    /// Begins a poll: returns what is to be sent before it.
    pub(crate) fn before_poll(&mut self) -> Result<Vec<ToSend>, IllegalState> {
        let is_open = self.owed.values().any(|owed| owed.said.is_none());
        if self.mode == AckMode::Explicit && is_open {
            return Err(IllegalState::Unacknowledged);
        }
        Ok(self.before_commit())
    }

    /// Begins a commit: returns what is to be sent.
    pub(crate) fn before_commit(&mut self) -> Vec<ToSend> {
        if self.mode == AckMode::Implicit {
            for owed in self.owed.values_mut() {
                owed.said = Some(Said::Accept);
            }
        }
        self.take_said()
    }

    /// Begins to close: returns what is to be sent. All other records are released by the end of the session.
    pub(crate) fn before_close(&mut self) -> Vec<ToSend> {
        let said = self.take_said();
        self.owed.clear();
        self.renewed.clear();
        said
    }

    /// Takes note of a lock that was renewed.
    pub(crate) fn has_renewed(&mut self, place: Place, delivery: u16) {
        self.renewed.insert(place, delivery);
    }

    /// Returns the renewed records, which a poll returns instead of new ones.
    pub(crate) fn take_renewed(&mut self) -> Vec<(Place, u16)> {
        let renewed = std::mem::take(&mut self.renewed);
        for (place, delivery) in &renewed {
            self.owed.insert(*place, Owed { delivery: *delivery, said: None });
        }
        renewed.into_iter().collect()
    }

    fn take_said(&mut self) -> Vec<ToSend> {
        let said = self.owed.extract_if(.., |_, owed| owed.said.is_some());
        let to_send = |(place, owed): (Place, Owed)| {
            owed.said.map(|said| ToSend { place, delivery: owed.delivery, said })
        };
        said.filter_map(to_send).collect()
    }
}
