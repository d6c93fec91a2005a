//! Puts cleaned segments in the place of others, and removes those.

use std::sync::Arc;

use crate::log::Log;
use crate::log::image::{LogImage, SegmentImage, is_deleted};
use crate::log::segment::Segment;
use crate::log::write_out::WriteOut;
use crate::sync::atomic::Ordering;
use crate::types::planted;

impl Log {
    /// Puts a cleaned segment in the place of others (K2, K4). Returns false if they are not all there any more.
    pub(super) fn replace(&self, old: &[Arc<Segment>], new: &Arc<Segment>) -> bool {
        let mut out = self.out.lock();
        let given_up = self.shared.given_up.load(Ordering::Acquire);
        if given_up || self.is_deleted() || self.is_closed() {
            return false;
        }
        let view = self.view();
        let first = old.first().map_or(0, |first| first.base_offset());
        let at = view.segments.partition_point(|segment| segment.base_offset() < first);
        let place = at..at.saturating_add(old.len());
        let there = view.segments.get(place.clone()).unwrap_or_default();
        let same = there.len() == old.len()
            && there.iter().zip(old).all(|(there, old)| Arc::ptr_eq(there, old));
        // Also if a part of them is deleted: a checkpoint that lists only the others would take the new one for
        // deleted too, because it begins below them.
        let start = self.start_offset();
        let deleted = || old.iter().any(|segment| is_deleted(&segment.image(), start));
        if !same || deleted() && !planted("replace_deleted_segments") {
            return false;
        }
        self.swap_view(|view| {
            Arc::make_mut(&mut view.segments).splice(place, [Arc::clone(new)]);
        });
        self.forget_transactions();
        for segment in old {
            segment.set_replaced();
            segment.close_file();
        }
        out.names_changed = true;
        out.replaced.extend(old.iter().cloned());
        if planted("replaced_before_listed") {
            for segment in old {
                drop(segment.remove_files());
            }
        }
        self.mark_dirty();
        true
    }

    /// Records that a pass has covered everything below an offset.
    pub(super) fn covered(&self, next_dirty_offset: i64) {
        let _out = self.out.lock();
        self.first_dirty.store(next_dirty_offset, Ordering::Release);
        self.mark_dirty();
    }

    /// Removes the replaced segments that a durable checkpoint does not list (K3).
    pub(in crate::log) fn remove_replaced(&self, out: &mut WriteOut, listed: &LogImage) {
        if out.replaced.is_empty() {
            return;
        }
        let is_listed = |segment: &Arc<Segment>| {
            listed.segments.binary_search_by_key(&segment.id(), SegmentImage::id).is_ok()
        };
        let (kept, gone) = std::mem::take(&mut out.replaced).into_iter().partition(is_listed);
        out.replaced = kept;
        self.remove_segments(out, gone);
    }

    /// Returns whether replaced segments wait for a checkpoint that does not list them.
    pub(crate) fn has_replaced(&self) -> bool {
        !self.out.lock().replaced.is_empty()
    }
}
