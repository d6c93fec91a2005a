//! The command line of grouplog: topics, records, groups and segment files from a shell.
//!
//! It uses the crate's public API only. Commands that only look open the folder for reading, beside
//! the application that writes to it; the others need to be the one writer. What was asked for goes
//! to stdout, everything else to stderr: an error is one line there that says what, where and what to
//! do, with exit code 1, or 2 for bad usage.

mod args;
mod before;
mod consume;
mod damage;
mod dump;
mod entries;
mod escape;
mod failure;
mod folder;
mod follow;
mod format;
mod from;
mod group;
mod input;
mod kafka_files;
mod output;
mod produce;
mod read;
mod records;
mod reset;
mod reset_to;
mod scope;
mod stdout;
mod time;
mod topic;
mod turn;
mod verify;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};
use failure::{Failure, say};
use output::Output;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads the output has seen enough, as in `grouplog consume orders | head`.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(Failure::Reported) => ExitCode::FAILURE,
        Err(failure) => {
            say(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let mut out = Output::new(args.json);
    // Before anything is changed or committed that nobody would hear of.
    if prints(args) {
        stdout::check_writable().map_err(Failure::Output)?;
    }
    let result = match &args.command {
        Command::Topic(command) => topic::run(&args.data, command, &mut out),
        Command::Produce(command) => produce::run(&args.data, command, &mut out),
        Command::Consume(command) => consume::run(&args.data, command, &mut out),
        Command::Group(command) => group::run(&args.data, command, &mut out),
        Command::Records(command) => records::run(&args.data, command, &mut out),
        Command::Dump(command) => dump::run(&args.data, command, &mut out),
        Command::Verify(command) => verify::run(&args.data, command, &mut out),
    };
    // What was printed before an error is shown.
    let flushed = out.flush();
    result.and(flushed.map_err(Failure::Output))
}

/// Whether the command prints to stdout. `produce` alone has nothing to say there.
fn prints(args: &Args) -> bool {
    args.json || !matches!(args.command, Command::Produce(_))
}
