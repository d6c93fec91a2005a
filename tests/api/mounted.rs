//! File systems that a test mounts for itself, as root. A test that cannot says why and is skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system mounted on a folder for the lifetime of the value.
pub(crate) struct Mounted {
    folder: tempfile::TempDir,
    /// The image of this file system, in the file system that holds it.
    image: Option<(PathBuf, Box<Mounted>)>,
}

/// The kinds of file systems that lie in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(dead_code, reason = "not each test binary mounts all kinds")]
pub(crate) enum Kind {
    Ext4,
    Ext4WithoutJournal,
    Xfs,
    Btrfs,
}

impl Kind {
    fn make(self) -> Command {
        let words: &[&str] = match self {
            Self::Ext4 => &["mkfs.ext4", "-q", "-F", "-m", "0"],
            Self::Ext4WithoutJournal => &["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal"],
            Self::Xfs => &["mkfs.xfs", "-q", "-f"],
            Self::Btrfs => &["mkfs.btrfs", "-q", "-f"],
        };
        let (program, args) = words.split_first().unwrap();
        let mut command = Command::new(program);
        command.args(args);
        command
    }
}

impl Mounted {
    pub(crate) fn tmpfs(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder.path()))?;
        Some(Self { folder, image: None })
    }

    /// Creates a file system in a sparse image of `bytes`, which lies in `below`.
    pub(crate) fn image(kind: Kind, bytes: u64, below: Self) -> Option<Self> {
        let image = below.path("image");
        #[expect(clippy::disallowed_types, reason = "an image is no file of the engine")]
        std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        run(kind.make().arg(&image))?;
        Self::loop_mount(image, Box::new(below))
    }

    fn loop_mount(image: PathBuf, below: Box<Self>) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(folder.path()))?;
        Some(Self { folder, image: Some((image, below)) })
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Mounts the image again. Its page cache is gone.
    #[allow(dead_code, reason = "not each test binary does")]
    pub(crate) fn again(mut self) -> Option<Self> {
        let (image, below) = self.image.take().unwrap();
        run(Command::new("umount").arg(self.root()))?;
        Self::loop_mount(image, below)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Unmounts lazily, so that a failed test with open files leaves no mount behind.
        let mut umount = Command::new("umount");
        let _gone_with_the_process = umount.arg("-l").arg(self.folder.path()).output();
    }
}

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn run(command: &mut Command) -> Option<()> {
    match command.output() {
        Ok(output) if output.status.success() => Some(()),
        Ok(output) => {
            eprintln!("skipped: {command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
            None
        }
        Err(error) => {
            eprintln!("skipped: {command:?}: {error}");
            None
        }
    }
}
