//! Choices and bytes from a fuzzer's input.

/// Reads an input from the front. Once it is used up, every choice is 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn u8(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().map_or((0, self.rest), |(a, b)| (*a, b));
        self.rest = rest;
        first
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    /// Returns at most `len` bytes.
    pub(super) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        bytes
    }
}
