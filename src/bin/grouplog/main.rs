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
mod follow;
mod format;
mod group;
mod input;
mod output;
mod produce;
mod reset;
mod time;
mod topic;
mod verify;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use grouplog::{Broker, BrokerConfig, ReadOnlyBroker};

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

/// Opens the folder for reading, which works beside its writer.
fn open_read_only(data: &Path) -> Result<ReadOnlyBroker, Failure> {
    check_folder(data)?;
    Ok(Broker::open_read_only(data)?)
}

/// Runs `work` as the one writer of a folder that must be there, and closes it whatever comes of it.
fn with_writer<T>(
    data: &Path,
    work: impl FnOnce(&Broker) -> Result<T, Failure>,
) -> Result<T, Failure> {
    check_folder(data)?;
    work_and_close(Broker::open_with(data, BrokerConfig::new().create(false))?, work)
}

/// As [`with_writer`]; a folder that is not there is made.
fn with_new_writer<T>(
    data: &Path,
    work: impl FnOnce(&Broker) -> Result<T, Failure>,
) -> Result<T, Failure> {
    work_and_close(Broker::open(data)?, work)
}

fn work_and_close<T>(
    broker: Broker,
    work: impl FnOnce(&Broker) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let result = work(&broker);
    let closed = broker.close();
    let value = result?;
    closed?;
    Ok(value)
}

fn check_folder(data: &Path) -> Result<(), Failure> {
    if data.is_dir() {
        return Ok(());
    }
    let what = if data.exists() { "is not a folder" } else { "does not exist" };
    Err(Failure::Other(format!(
        "{} {what}; name the folder with --data or GROUPLOG_DATA, or begin one with `grouplog topic create`",
        data.display()
    )))
}
