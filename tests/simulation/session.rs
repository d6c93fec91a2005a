//! An open folder with everything that uses it.

use std::collections::VecDeque;

use grouplog::{Acks, Broker, Delivery, HealthStatus, Producer, ProducerConfig, Result};

use crate::member::Member;
use crate::owner::Named;
use crate::transact::Open;

/// The time from an opening to the end of a life.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) broker: Broker,
    pub(crate) written: Producer,
    pub(crate) synced: Producer,
    /// `Synced` records that have not been waited for, each with the number of changes up to it.
    pub(crate) unwaited: VecDeque<(usize, Delivery)>,
    pub(crate) members: Vec<Member>,
    pub(crate) named: Vec<Named>,
    /// Transactions that are open, in the order in which they began.
    pub(crate) open: Vec<Open>,
}

impl Session {
    pub(crate) fn new(broker: Broker) -> Result<Self> {
        let producer = |acks| broker.producer_with(ProducerConfig::new().acks(acks));
        let (written, synced) = (producer(Acks::Written)?, producer(Acks::Synced)?);
        Ok(Self {
            broker,
            written,
            synced,
            unwaited: VecDeque::new(),
            members: Vec::new(),
            named: Vec::new(),
            open: Vec::new(),
        })
    }

    /// Returns whether a write or sync failed for good.
    pub(crate) fn has_failed(&self) -> bool {
        self.broker.health().status() == HealthStatus::Failed
    }
}
