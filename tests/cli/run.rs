//! Runs the binary in a folder of its own.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A temporary folder, and the binary in it.
pub(crate) struct Cli {
    folder: tempfile::TempDir,
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl Cli {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Builds a command for the folder `data`, which does not exist at first.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_grouplog"));
        command.current_dir(self.folder.path()).env_remove("GROUPLOG_DATA").args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        Ran { stdout: output.stdout, stderr, code: output.status.code() }
    }

    /// Runs a command with a redirection of the shell, such as `>&-`.
    pub(crate) fn redirected(&self, args: &[&str], redirection: &str) -> Ran {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec \"$0\" \"$@\" {redirection}")]);
        command.arg(env!("CARGO_BIN_EXE_grouplog")).args(args);
        command.current_dir(self.folder.path()).env_remove("GROUPLOG_DATA").stdin(Stdio::null());
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        Ran { stdout: output.stdout, stderr, code: output.status.code() }
    }

    /// Runs a command that must succeed. Returns its stdout.
    pub(crate) fn ok(&self, args: &[&str]) -> Vec<u8> {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.stderr);
        ran.stdout
    }

    pub(crate) fn ok_text(&self, args: &[&str]) -> String {
        String::from_utf8(self.ok(args)).unwrap()
    }

    /// Runs a command that must fail. Returns the one line of its error.
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(1), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("grouplog: "), "{}", ran.stderr);
        assert_eq!(ran.stderr.matches('\n').count(), 1, "{}", ran.stderr);
        assert!(ran.stderr.ends_with('\n'), "{}", ran.stderr);
        ran.stderr
    }

    /// Runs a command with `input` on its stdin.
    pub(crate) fn feed(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // It may end before it has read everything.
        let writer = std::thread::spawn(move || stdin.write_all(&input).is_ok());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        Ran { stdout: output.stdout, stderr, code: output.status.code() }
    }

    /// Produces `input`, which must succeed.
    pub(crate) fn produce(&self, topic: &str, input: &[u8]) {
        let ran = self.feed(&["produce", topic], input);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }

    /// Starts a command with its stdin held open.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running(self.command(args).stdin(Stdio::piped()).spawn().unwrap())
    }
}

/// A process that ends with its test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _has_ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Returns the lines `from` to `to`, each with its number and of its own length.
pub(crate) fn numbered(from: usize, to: usize) -> Vec<u8> {
    let line = |n: usize| format!("{n} {}\n", "x".repeat(n % 60));
    (from..to).map(line).collect::<String>().into_bytes()
}

/// Returns the complete lines, without their line feeds.
pub(crate) fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|&byte| byte == b'\n').filter_map(|l| l.strip_suffix(b"\n")).collect()
}
