//! Opens the folder that `--data` names, for reading or as its only writer.

use std::path::Path;
use std::sync::OnceLock;

use grouplog::{Broker, BrokerConfig, ReadOnlyBroker};

use crate::failure::Failure;

/// The disk budget of all openings for writing. A process runs one command.
static BUDGET: OnceLock<u64> = OnceLock::new();

/// Sets the disk budget, if there is one.
pub(crate) fn limit(budget: Option<u64>) {
    if let Some(budget) = budget {
        BUDGET.get_or_init(|| budget);
    }
}

fn config() -> BrokerConfig {
    match BUDGET.get() {
        Some(budget) => BrokerConfig::new().disk_budget(*budget),
        None => BrokerConfig::new(),
    }
}

/// Opens the folder for reading. This also works while another process writes it.
pub(crate) fn open_read_only(data: &Path) -> Result<ReadOnlyBroker, Failure> {
    check_folder(data)?;
    Ok(Broker::open_read_only(data)?)
}

/// Runs `work` as the only writer of an existing folder. Closes the folder even if `work` fails.
pub(crate) fn with_writer<T>(
    data: &Path,
    work: impl FnOnce(&Broker) -> Result<T, Failure>,
) -> Result<T, Failure> {
    check_folder(data)?;
    work_and_close(Broker::open_with(data, config().create(false))?, work)
}

/// Like [`with_writer`], but creates the folder if it does not exist. It does not create the folders above
/// it, so a mistyped path leaves nothing behind.
pub(crate) fn with_new_writer<T>(
    data: &Path,
    work: impl FnOnce(&Broker) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if data.symlink_metadata().is_ok() {
        check_folder(data)?;
    } else if let Some(parent) = data.parent().filter(|parent| !parent.as_os_str().is_empty())
        && !parent.is_dir()
    {
        return Err(Failure::Other(format!(
            "{} cannot be created: {} is not a folder; correct --data or GROUPLOG_DATA, or create that folder first",
            data.display(),
            parent.display()
        )));
    }
    work_and_close(Broker::open_with(data, config())?, work)
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

pub(crate) fn check_folder(data: &Path) -> Result<(), Failure> {
    if data.is_dir() {
        return Ok(());
    }
    let what = if data.exists() { "is not a folder" } else { "does not exist" };
    Err(Failure::Other(format!(
        "{} {what}; name the folder with --data or GROUPLOG_DATA, or create it with `grouplog topic create`",
        data.display()
    )))
}
