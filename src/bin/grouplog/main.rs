//! The command line of grouplog: topics, records, groups and segment files from a shell.
//!
//! The command line uses only the public API of the crate. Commands that only read open the folder for
//! reading, beside the application that writes it. The other commands must be the only writer.
//!
//! Results go to stdout, everything else to stderr. An error is one line on stderr that says what, where and
//! what to do. The exit code is 1, or 2 for wrong usage.

mod args;
mod before;
mod clean;
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
mod member;
mod output;
mod owner;
mod produce;
mod read;
mod record;
mod records;
mod redrive;
mod reset;
mod reset_to;
mod scope;
mod share;
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
        // The reader of the output has seen enough, as in `grouplog consume orders | head`.
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
    folder::limit(args.disk_budget);
    let mut out = Output::new(args.json);
    // Before the command changes or commits anything, since nobody would see the result.
    if prints(args) {
        stdout::check_writable().map_err(Failure::Output)?;
    }
    let result = match &args.command {
        Command::Topic(command) => topic::run(&args.data, command, &mut out),
        Command::Produce(command) => produce::run(&args.data, command, &mut out),
        Command::Consume(command) => consume::run(&args.data, command, &mut out),
        Command::Group(command) => group::run(&args.data, command, &mut out),
        Command::Owner(command) => owner::run(&args.data, command, &mut out),
        Command::Share(command) => share::run(&args.data, command, &mut out),
        Command::Records(command) => records::run(&args.data, command, &mut out),
        Command::Clean { topic } => clean::run(&args.data, topic.as_deref(), &mut out),
        Command::Dump(command) => dump::run(&args.data, command, &mut out),
        Command::Verify(command) => verify::run(&args.data, command, &mut out),
    };
    // Also after an error: show what was printed before it.
    let flushed = out.flush();
    result.and(flushed.map_err(Failure::Output))
}

/// Returns whether the command prints to stdout. Only `produce` without `--json` does not.
fn prints(args: &Args) -> bool {
    args.json || !matches!(args.command, Command::Produce(_))
}
