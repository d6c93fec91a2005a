use std::path::Path;

use serde_json::json;

use crate::args::Owner;
use crate::failure::Failure;
use crate::folder::{open_read_only, with_writer};
use crate::output::{Output, Table, or_dash};

pub(crate) fn run(data: &Path, command: &Owner, out: &mut Output) -> Result<(), Failure> {
    match command {
        Owner::List => list(data, out),
        Owner::Delete { id } => delete(data, id, out),
    }
}

fn list(data: &Path, out: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&["transactional.id", "epoch", "last sequence"]);
    for owner in open_read_only(data)?.list_owners() {
        if out.json {
            out.object(&json!({
                "transactional_id": owner.transactional_id,
                "epoch": owner.epoch,
                "last_sequence": owner.last_sequence,
            }))?;
        } else {
            let last = or_dash(owner.last_sequence);
            table.row([owner.transactional_id, owner.epoch.to_string(), last]);
        }
    }
    if out.json { Ok(()) } else { table.print(out) }
}

fn delete(data: &Path, id: &str, out: &mut Output) -> Result<(), Failure> {
    with_writer(data, |broker| Ok(broker.admin().delete_owner(id)?))?;
    if out.json {
        return out.object(&json!({ "deleted": id }));
    }
    out.text(&format!("deleted transactional.id {id}\n"))
}
