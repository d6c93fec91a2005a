//! How the members agree on an assignor, as Kafka's classic groups do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Group, Refusal};
use crate::group::member::{Member, MemberConfig, MemberId};
use crate::types::Assignor;

impl Group {
    /// Checks that the newcomer proposes an assignor that all members but `except` propose too
    /// (G10).
    pub(super) fn check_agreement(
        &self,
        newcomer: &MemberConfig,
        except: Option<&MemberId>,
    ) -> Result<(), Refusal> {
        let others = self.members.iter().filter(|(id, _)| Some(*id) != except);
        let configs = others.map(|(_, member)| &member.config).chain([newcomer]);
        if candidates(configs).is_empty() {
            let proposed: Vec<&str> =
                newcomer.assignors.iter().map(|assignor| assignor.name()).collect();
            return Err(Refusal::InconsistentGroupProtocol { proposed: proposed.join(", ") });
        }
        Ok(())
    }

    /// Returns the assignor that the members vote for, or `None` in a group without members.
    ///
    /// Each member votes for the first candidate of its list, and most votes win. In a tie, the
    /// member with the lowest id decides, and its implementation is used.
    pub(super) fn elect(&self) -> Option<Arc<dyn Assignor>> {
        let candidates = candidates(self.members.values().map(|member| &member.config));
        let vote = |member: &Member| {
            let mut list = member.config.assignors.iter();
            list.find(|assignor| candidates.contains(assignor.name())).cloned()
        };
        let votes: Vec<Arc<dyn Assignor>> = self.members.values().filter_map(vote).collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for vote in &votes {
            let count = counts.entry(vote.name()).or_default();
            *count = count.saturating_add(1);
        }
        let most = counts.values().copied().max()?;
        votes.iter().find(|vote| counts.get(vote.name()) == Some(&most)).cloned()
    }
}

/// Returns the names that all of them propose.
fn candidates<'a>(configs: impl IntoIterator<Item = &'a MemberConfig>) -> BTreeSet<&'a str> {
    let mut configs = configs.into_iter();
    let Some(first) = configs.next() else { return BTreeSet::new() };
    let mut names: BTreeSet<&str> = first.assignors.iter().map(|a| a.name()).collect();
    for config in configs {
        names.retain(|name| config.assignors.iter().any(|assignor| assignor.name() == *name));
    }
    names
}
