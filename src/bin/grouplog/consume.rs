use std::path::Path;

use crate::args::Consume;
use crate::damage::Damage;
use crate::failure::Failure;
use crate::folder::open_read_only;
use crate::follow;
use crate::format::Format;
use crate::member::Member;
use crate::output::Output;
use crate::read::Printer;
use crate::stdout;
use crate::turn::{Begin, Turn};

pub(crate) fn run(data: &Path, command: &Consume, out: &mut Output) -> Result<(), Failure> {
    if stdout::may_have_been_closed().map_err(Failure::Output)? {
        return Err(Failure::Other(
            "stdout is closed (or it is /dev/null, opened for reading and writing), so nobody would see the records: nothing was read or committed; redirect stdout to a file or a pipe".to_owned(),
        ));
    }
    let json = if out.json { Format::Json } else { Format::Value };
    let mut printer = Printer {
        format: command.format.clone().unwrap_or(json),
        left: command.max.unwrap_or(u64::MAX),
        out,
    };
    if let Some(group) = &command.share {
        return Member { data, command, group, printer: &mut printer }.run();
    }
    let Some(group) = &command.group else {
        return follow::read(open_read_only(data)?, command, &mut printer);
    };
    let mut turn = Turn {
        data,
        command,
        group,
        begin: Begin::From(command.from),
        printer: &mut printer,
        damage: Damage::new(command.skip_damaged),
    };
    if command.follow {
        return follow::as_group(turn);
    }
    turn.take()?;
    turn.damage.into_result()
}
