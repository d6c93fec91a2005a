use std::path::Path;

use grouplog::ResetOffset;
use serde_json::json;

use crate::args::Reset;
use crate::failure::Failure;
use crate::folder::{open_read_only, with_writer};
use crate::output::{Output, Table, or_dash};
use crate::scope::scope;

pub(crate) fn run(data: &Path, command: &Reset, out: &mut Output) -> Result<(), Failure> {
    let scope = scope(command.topic.as_deref(), &command.partition);
    let (name, to) = (command.name.as_str(), command.to);
    let moved = if command.dry_run {
        open_read_only(data)?.plan_reset(name, &scope, to)?
    } else {
        with_writer(data, |broker| Ok(broker.admin().reset_offsets(name, &scope, to)?))?
    };
    if out.json {
        return moved.iter().try_for_each(|offset| print_json(command, offset, out));
    }
    let mut table = Table::new(&["partition", "committed", "new"]);
    for offset in &moved {
        table.row([
            offset.partition.to_string(),
            or_dash(offset.committed),
            offset.target.to_string(),
        ]);
    }
    table.print(out)?;
    if command.dry_run { out.text("nothing was changed: --dry-run\n") } else { Ok(()) }
}

fn print_json(command: &Reset, offset: &ResetOffset, out: &mut Output) -> Result<(), Failure> {
    out.object(&json!({
        "group": command.name,
        "topic": offset.partition.topic(),
        "partition": offset.partition.partition(),
        "committed": offset.committed,
        "new": offset.target,
        "dry_run": command.dry_run,
    }))
}
