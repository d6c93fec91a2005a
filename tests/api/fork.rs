//! A process that forks while a folder is open (F17). The engine refuses the child's calls at once, the
//! child's drops do nothing, and the parent continues.
#![expect(unsafe_code, reason = "there is no safe way to fork")]

use std::time::Duration;

use grouplog::{
    Broker, BrokerConfig, Error, OffsetScope, Problem, Record, ResetTo, Timestamp, TopicConfig,
};

use crate::world::{all, tp, values};

/// Runs `work` in a forked child, which ends without unwinding and without exit handlers. Returns whether the
/// child reported success. A signal ends a child that hangs after 20 seconds.
pub(crate) fn in_child(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child uses what the parent's other threads may have locked only through `work`, which is
    // the very thing under test. It ends by `_exit`, so none of the parent's destructors or exit handlers run
    // in it. `alarm` and `waitpid` use no memory but a status on the stack.
    unsafe {
        match libc::fork() {
            0 => {
                libc::alarm(20);
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                libc::_exit(i32::from(!matches!(done, Ok(true))));
            }
            child => {
                assert!(child > 0);
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
            }
        }
    }
}

const NOW: Timestamp = Timestamp::from_millis(0);
const SCOPE: OffsetScope = OffsetScope::Committed;

#[expect(clippy::needless_pass_by_value, reason = "it takes what a call returned")]
fn is_forked<T>(result: grouplog::Result<T>) -> bool {
    matches!(result, Err(Error::ForkedChild))
}

#[test]
fn a_forked_child_is_refused_and_the_parent_goes_on() {
    for background in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let config = BrokerConfig::new().background(background);
        let broker = Broker::open_with(&path, config.clone()).unwrap();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        let producer = broker.producer().unwrap();
        producer.send(Record::to("t").value("before")).unwrap().wait().unwrap();
        let callbacks = broker.producer().unwrap();
        callbacks.send_with(Record::to("t").value("called back"), |_| ()).unwrap();
        callbacks.flush().unwrap();
        let mut member = broker.consumer("g").unwrap();
        member.subscribe(["t"]).unwrap();
        assert_eq!(member.poll(Duration::ZERO).unwrap().len(), 2);
        let delivery = producer.send(Record::to("t").value("unsynced")).unwrap();

        let (mut handles, mut member, mut delivery) =
            (Some((broker, producer, callbacks)), Some(member), Some(delivery));
        // Twice: the first child drops all handles, which must leave the parent's handles intact.
        for _ in 0..2 {
            assert!(in_child(|| {
                let (parents, producer, _) = handles.as_ref().unwrap();
                let refused = is_forked(producer.send(Record::to("t")))
                    && is_forked(producer.flush())
                    && is_forked(delivery.take().unwrap().wait())
                    && is_forked(member.as_mut().unwrap().poll(Duration::ZERO))
                    && is_forked(member.as_mut().unwrap().commit())
                    && is_forked(parents.create_topic("u", TopicConfig::new()))
                    && is_forked(parents.delete_topic("t"))
                    && is_forked(parents.producer())
                    && is_forked(parents.consumer("g"))
                    && is_forked(parents.checkpoint())
                    && is_forked(parents.clone().close())
                    && is_forked(parents.describe_topic("t"))
                    && is_forked(parents.describe_group("g"))
                    && is_forked(parents.admin().disk_usage())
                    && is_forked(parents.admin().delete_records(&tp("t", 0), 1))
                    && is_forked(parents.admin().offset_for_time(&tp("t", 0), NOW))
                    && is_forked(parents.admin().plan_reset("g", &SCOPE, ResetTo::Earliest))
                    && is_forked(member.as_ref().unwrap().committed(&tp("t", 0)))
                    && is_forked(member.as_ref().unwrap().end_offsets([&tp("t", 0)]))
                    && is_forked(member.as_mut().unwrap().position(&tp("t", 0)));
                let problems = parents.health();
                let [Problem::Failed { cause }] = problems.problems() else { return false };
                let nothing = parents.list_topics().is_empty() && parents.list_groups().is_empty();
                let refused = refused && nothing && matches!(**cause, Error::ForkedChild);
                // The folder belongs to the parent, but the child may open it read-only.
                let beside = Broker::open_read_only(&path).unwrap();
                let locked = match Broker::open(&path) {
                    Err(Error::Locked { pid, .. }) => pid != Some(std::process::id()),
                    _ => false,
                };
                drop((member.take(), handles.take()));
                refused && locked && beside.list_topics() == ["t"]
            }));
            // The parent's memory is its own, so the child took nothing from it.
            assert!(handles.is_some() && member.is_some() && delivery.is_some());
        }
        let (broker, producer, callbacks) = handles.unwrap();
        assert!(broker.health().is_ok());
        delivery.unwrap().wait().unwrap();
        let mut member = member.unwrap();
        assert_eq!(member.poll(Duration::ZERO).unwrap().len(), 1);
        member.commit().unwrap();
        let committed = member.committed(&tp("t", 0)).unwrap();
        assert_eq!(committed.map(|at| at.offset()), Some(3));
        drop((member, producer, callbacks));
        let values_before = values(&all(&broker, "t"));
        broker.close().unwrap();

        let broker = Broker::open_with(&path, config).unwrap();
        assert_eq!(values(&all(&broker, "t")), values_before);
    }
}

/// A child inherits locks in the state of the moment, and those that another thread holds stay held.
#[test]
fn a_child_drops_what_threads_of_its_parent_are_using() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(folder.path().join("data")).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let mut sleeper = broker.consumer("g").unwrap();
    sleeper.subscribe(["t"]).unwrap();
    let mut sharer = broker.share_consumer("s").unwrap();
    sharer.subscribe(["t"]).unwrap();
    let mut kept = Some((broker.clone(), sleeper, sharer));
    for round in 0..500 {
        let (_, sleeper, sharer) = kept.as_mut().unwrap();
        if round % 50 == 0 {
            sleeper.poll(Duration::from_millis(1)).unwrap();
            sharer.poll(Duration::from_millis(1)).unwrap().accept_all().unwrap();
        }
        let producer = broker.producer().unwrap();
        producer.send_with(Record::to("t").value("x"), |_| ()).unwrap();
        // The thread of the callbacks goes to sleep about now.
        (0..round * 61 % 4000).for_each(|_| std::hint::spin_loop());
        let mut handles = Some((producer, kept.take()));
        assert!(in_child(|| {
            drop(handles.take());
            true
        }));
        kept = handles.unwrap().1;
    }
    broker.close().unwrap();
}

#[test]
fn a_child_that_outlives_the_parents_close_does_not_keep_the_folder_locked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let config = BrokerConfig::new().background(false);
    let broker = Broker::open_with(&path, config.clone()).unwrap();
    let (mut go, mut told) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
    let parent = std::thread::scope(|scope| {
        use std::io::{Read as _, Write as _};
        let child = scope.spawn(|| {
            in_child(|| {
                told.1.write_all(b"x").unwrap();
                // The child lives until the parent has closed and opened the folder again.
                go.0.read_exact(&mut [0]).unwrap();
                matches!(Broker::open_with(&path, config.clone()), Err(Error::Locked { .. }))
            })
        });
        told.0.read_exact(&mut [0]).unwrap();
        broker.close().unwrap();
        let again = Broker::open_with(&path, config.clone()).unwrap();
        go.1.write_all(b"x").unwrap();
        assert!(child.join().unwrap());
        again
    });
    parent.close().unwrap();
}
