use std::path::Path;

use crate::args::Consume;
use crate::failure::Failure;
use crate::folder::open_read_only;
use crate::follow;
use crate::format::Format;
use crate::output::Output;
use crate::read::Printer;
use crate::turn::take_turn;

pub(crate) fn run(data: &Path, command: &Consume, out: &mut Output) -> Result<(), Failure> {
    let json = if out.json { Format::Json } else { Format::Value };
    let mut printer = Printer {
        format: command.format.clone().unwrap_or(json),
        left: command.max.unwrap_or(u64::MAX),
        out,
    };
    match &command.group {
        None => follow::read(open_read_only(data)?, command, &mut printer),
        Some(group) => {
            take_turn(data, command, group, &mut printer)?;
            if command.follow {
                follow::as_group(data, command, group, &mut printer)
            } else {
                Ok(())
            }
        }
    }
}
