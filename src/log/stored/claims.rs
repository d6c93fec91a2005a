//! Claims: replayed stored sections, until they are compared with the files.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crc32fast::Hasher;

use crate::error::{Error, Result};
use crate::log::image::SegmentImage;
use crate::log::segment::Segment;
use crate::segment::{Extension, SegmentId, file_name};
use crate::storage::{FileKind, OpenMode, ReadMap, Storage, StorageFile};
use crate::types::Lsn;

/// The number of bytes read at a time.
const READ_BYTES: usize = 256 << 10;

/// A replayed stored section.
#[derive(Debug, Clone)]
pub(in crate::log) struct Claim {
    pub(in crate::log) lsn: Lsn,
    pub(in crate::log) images: Vec<SegmentImage>,
}

/// A range of a segment that recovery believes by its checksum.
#[derive(Debug)]
pub(in crate::log) struct Adopted {
    pub(in crate::log) segment: Arc<Segment>,
    pub(in crate::log) from: u64,
    pub(in crate::log) until: u64,
}

/// The segments of a partition as its claims describe them, up to some claim.
pub(in crate::log) struct Described {
    pub(in crate::log) segments: Vec<SegmentImage>,
    /// The end of the segments in the checkpoint.
    pub(in crate::log) hard_end: i64,
    /// The log start. Segments below it may be missing.
    pub(in crate::log) start: i64,
    /// The growth of segments that only checksums can prove: each time the image before and after.
    pub(in crate::log) unproven: Vec<(SegmentImage, SegmentImage)>,
}

impl Described {
    /// Adds a claim. Returns `None` if it contradicts what is known.
    pub(in crate::log) fn add(&mut self, claim: &Claim, trusted: bool) -> Option<()> {
        for image in &claim.images {
            let before = match self.segments.last() {
                Some(last) if last.base_offset == image.base_offset => {
                    let grown = last.len <= image.len && last.end_offset <= image.end_offset;
                    let last = grown.then(|| self.segments.pop())?;
                    last?
                }
                _ if image.end_offset <= self.hard_end => {
                    // The checkpoint lists the segment in its final state, or the log start has passed it.
                    continue;
                }
                last => {
                    let end = last.map_or(self.hard_end, |last| last.end_offset);
                    // Retention may have removed what lies between.
                    let follows = image.base_offset == end
                        || end < image.base_offset && image.base_offset <= self.start;
                    follows.then(|| SegmentImage::empty(image.base_offset))?
                }
            };
            self.segments.push(*image);
            if !trusted && before.len < image.len {
                self.unproven.push((before, *image));
            }
        }
        Some(())
    }
}

impl Adopted {
    /// Writes the bytes again where they are. Returns the file, which the caller has to sync.
    pub(in crate::log) fn write_again(&self) -> Result<Arc<dyn StorageFile>> {
        let file = self.segment.file()?;
        let mut buffer = vec![0; READ_BYTES];
        copy_in_place(&*file, self.from..self.until, &mut buffer)?;
        Ok(file)
    }
}

/// The bytes of one segment file, to prove growth with.
pub(in crate::log) struct Proof {
    base_offset: i64,
    bytes: Bytes,
}

enum Bytes {
    Missing,
    /// Half of the time that reads take.
    Map(ReadMap),
    Read {
        file: Arc<dyn StorageFile>,
        buffer: Vec<u8>,
    },
}

impl Proof {
    /// Opens the segment file of this base offset in `dir`. Reads it through a map if `maps`.
    pub(in crate::log) fn open(
        storage: &dyn Storage,
        dir: &Path,
        base_offset: i64,
        maps: bool,
    ) -> Result<Self> {
        let path = dir.join(file_name(SegmentId::first(base_offset), Extension::Log));
        let bytes = match storage.metadata(&path)? {
            Some((FileKind::File, len)) => {
                match storage.open(&path, OpenMode::Read) {
                    // Retention may have removed it since.
                    Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                        Bytes::Missing
                    }
                    Ok(file) if maps && len > 0 => Bytes::Map(file.map(len, len)?),
                    file => Bytes::Read { file: file?, buffer: vec![0; READ_BYTES] },
                }
            }
            _ => Bytes::Missing,
        };
        Ok(Self { base_offset, bytes })
    }

    /// Returns whether this is the segment with that base offset.
    pub(in crate::log) fn is_of(&self, base_offset: i64) -> bool {
        self.base_offset == base_offset
    }

    /// Returns whether the file holds the bytes that grew the segment from one image to another.
    pub(in crate::log) fn has_grown(
        &mut self,
        before: &SegmentImage,
        after: &SegmentImage,
    ) -> Result<bool> {
        let mut sum = Hasher::new_with_initial_len(before.checksum, before.len);
        match &mut self.bytes {
            Bytes::Missing => return Ok(false),
            Bytes::Map(map) => {
                let Some(bytes) = map.slice(before.len..after.len) else { return Ok(false) };
                sum.update(bytes);
            }
            Bytes::Read { file, buffer } => {
                let mut at = before.len;
                while at < after.len {
                    let bytes = read_some(&**file, at..after.len, buffer)?;
                    if bytes.is_empty() {
                        return Ok(false);
                    }
                    sum.update(bytes);
                    at = at.saturating_add(bytes.len() as u64);
                }
            }
        }
        Ok(sum.finalize() == after.checksum)
    }
}

/// Writes a range of a file again where it is.
fn copy_in_place(file: &dyn StorageFile, range: Range<u64>, buffer: &mut [u8]) -> Result<()> {
    let mut at = range.start;
    while at < range.end {
        let bytes = read_some(file, at..range.end, buffer)?;
        if bytes.is_empty() {
            // Somebody has truncated the file meanwhile. Readers report that.
            return Ok(());
        }
        file.write_at(bytes, at)?;
        at = at.saturating_add(bytes.len() as u64);
    }
    Ok(())
}

/// Reads from the start of a range, at most as many bytes as the buffer holds.
fn read_some<'b>(
    file: &dyn StorageFile,
    range: Range<u64>,
    buffer: &'b mut [u8],
) -> Result<&'b [u8]> {
    let want = buffer.len().min(range.end.saturating_sub(range.start) as usize);
    let read = file.read_at(buffer.get_mut(..want).unwrap_or_default(), range.start)?;
    Ok(buffer.get(..read).unwrap_or_default())
}
