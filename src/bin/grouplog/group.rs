use std::path::Path;

use grouplog::GroupSummary;
use serde_json::{Value, json};

use crate::args::Group;
use crate::failure::Failure;
use crate::open_read_only;
use crate::output::{Output, Table, or_dash};

pub(crate) fn run(data: &Path, command: &Group, out: &mut Output) -> Result<(), Failure> {
    match command {
        Group::List => list(data, out),
        Group::Describe { name } => describe(data, name, out),
    }
}

fn list(data: &Path, out: &mut Output) -> Result<(), Failure> {
    let broker = open_read_only(data)?;
    let mut table = Table::new(&["group", "partitions", "lag"]);
    for name in broker.list_groups() {
        let group = broker.describe_group(&name)?;
        let lag: i64 = group.offsets.iter().filter_map(|offset| offset.lag).sum();
        let count = group.offsets.len();
        if out.json {
            out.object(&json!({ "group": name, "partitions": count, "lag": lag }))?;
        } else {
            table.row([name, count.to_string(), lag.to_string()]);
        }
    }
    if out.json { Ok(()) } else { table.print(out) }
}

fn describe(data: &Path, name: &str, out: &mut Output) -> Result<(), Failure> {
    let group = open_read_only(data)?.describe_group(name)?;
    if out.json {
        return out.object(&json_group(&group));
    }
    let mut table = Table::new(&["partition", "committed", "end", "lag", "member"]);
    for offset in &group.offsets {
        table.row([
            offset.partition.to_string(),
            or_dash(offset.committed),
            offset.end_offset.to_string(),
            or_dash(offset.lag),
            or_dash(offset.member.as_ref()),
        ]);
    }
    table.print(out)
}

fn json_group(group: &GroupSummary) -> Value {
    let offsets: Vec<Value> = group
        .offsets
        .iter()
        .map(|offset| {
            json!({
                "topic": offset.partition.topic(),
                "partition": offset.partition.partition(),
                "committed": offset.committed,
                "end_offset": offset.end_offset,
                "lag": offset.lag,
                "member": offset.member,
            })
        })
        .collect();
    json!({ "group": group.name, "offsets": offsets })
}
