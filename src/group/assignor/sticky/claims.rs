use crate::group::assignor::layout::Layout;

/// Which member owned which partition, as the members claim.
#[derive(Debug)]
pub(super) struct Claims {
    claims: Vec<Option<Claim>>,
    /// By partition: the last owner in a generation older than the newest of all members.
    older: Vec<Option<(i32, usize)>>,
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    member: usize,
    generation: i32,
    /// Set if two members claim the partition in the same generation. Then both lose it.
    disputed: bool,
}

impl Claims {
    /// Collects the claims. Of two claims, the one with the higher generation counts.
    pub(super) fn new(layout: &Layout<'_>) -> Self {
        let mut claims: Vec<Option<Claim>> = vec![None; layout.partitions()];
        let mut older: Vec<Option<(i32, usize)>> = vec![None; layout.partitions()];
        let newest = (0..layout.members()).map(|member| layout.generation(member)).max();
        for member in 0..layout.members() {
            let generation = layout.generation(member);
            for partition in layout.owned(member) {
                let Some(slot) = claims.get_mut(partition) else { continue };
                let new = Claim { member, generation, disputed: false };
                match slot {
                    Some(claim) if claim.generation > generation => {}
                    Some(claim) if claim.generation == generation => {
                        claim.disputed |= claim.member != member;
                    }
                    _ => *slot = Some(new),
                }
                if Some(generation) < newest
                    && let Some(slot) = older.get_mut(partition)
                {
                    *slot = (*slot).max(Some((generation, member)));
                }
            }
        }
        Self { claims, older }
    }

    /// Returns the member that owned the partition and may keep it.
    pub(super) fn owner(&self, partition: usize) -> Option<usize> {
        let claim = self.claims.get(partition).copied().flatten()?;
        (!claim.disputed).then_some(claim.member)
    }

    /// Returns the member that owned the partition in an older generation. Another member may have
    /// owned it since.
    pub(super) fn older_owner(&self, partition: usize) -> Option<usize> {
        self.older.get(partition).copied().flatten().map(|(_, member)| member)
    }

    /// Returns whether another member must give the partition up before this member can get it.
    pub(super) fn is_in_transfer(&self, partition: usize, member: usize) -> bool {
        let claim = self.claims.get(partition).copied().flatten();
        claim.is_some_and(|claim| claim.disputed || claim.member != member)
    }
}
