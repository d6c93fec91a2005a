//! A member, and what it believes to have.

use super::super::MemberNumber;

/// A delivery in the hands of a member.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handle {
    pub(super) offset: i64,
    pub(super) delivery: u16,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) number: MemberNumber,
    pub(super) reserved: Vec<i64>,
    pub(super) handles: Vec<Handle>,
    /// Handles about which it has said its last word.
    pub(super) used: Vec<Handle>,
}

impl Member {
    pub(super) fn new(number: MemberNumber) -> Self {
        Self { number, reserved: Vec::new(), handles: Vec::new(), used: Vec::new() }
    }
}
