//! The command line of grouplog: topics, records, groups and segment files from a shell.
//!
//! It uses the crate's public API only. Commands that only look open the folder for reading, beside
//! the application that writes to it; the others need to be the one writer. What was asked for goes
//! to stdout, everything else to stderr: an error is one line there that says what, where and what to
//! do, with exit code 1, or 2 for bad usage.

mod args;
mod consume;
mod dump;
mod entries;
mod failure;
mod folder;
mod follow;
mod format;
mod from;
mod group;
mod input;
mod output;
mod produce;
mod read;
mod reset;
mod reset_to;
mod scope;
mod time;
mod topic;
mod turn;
mod verify;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};
use failure::Failure;
use output::Output;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads the output has seen enough, as in `grouplog consume orders | head`.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            // Where even stderr is gone, the exit code is all that is left to say.
            let _nobody_listens = writeln!(io::stderr(), "grouplog: {}", failure.one_line());
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let mut out = Output::new(args.json);
    let result = match &args.command {
        Command::Topic(command) => topic::run(&args.data, command, &mut out),
        Command::Produce(command) => produce::run(&args.data, command, &mut out),
        Command::Consume(command) => consume::run(&args.data, command, &mut out),
        Command::Group(command) => group::run(&args.data, command, &mut out),
        Command::Dump(command) => dump::run(&args.data, command, &mut out),
        Command::Verify(command) => verify::run(&args.data, command, &mut out),
    };
    // What was printed before an error is shown.
    let flushed = out.flush();
    result.and(flushed.map_err(Failure::Output))
}
