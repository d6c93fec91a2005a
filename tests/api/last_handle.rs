//! The effects of dropping the last handle.

use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use grouplog::{Broker, Record, TopicConfig};

use crate::faulty::{Act, Faulty};
use crate::world::World;

/// The engine's threads hold it while they work, but dropping the last handle must still wait for the end.
#[test]
fn dropping_the_last_handle_in_the_middle_of_a_checkpoint_frees_the_folder() {
    let world = World::new();
    let storage = Faulty::new(world.storage.clone());
    let config = world.config.clone().background(true).open_batches_max_bytes(1 << 20);
    let config = config.stored_append_bytes(1 << 30).journal_max_bytes(16 << 20);
    let broker = Broker::open_storage(Arc::new(storage.clone()), config).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let sender = broker.producer().unwrap();
    sender.send(Record::to("t").value("kept")).unwrap().wait().unwrap();
    let barrier = Arc::new(Barrier::new(2));
    storage.order("write", "checkpoint.", Act::Meet(Arc::clone(&barrier)));
    // Makes the background thread write a checkpoint.
    for _ in 0..2 {
        sender.send(Record::to("t").value(&vec![7; 600_000])).unwrap();
    }
    barrier.wait();
    storage.heal();
    let (told, reopened) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            drop(sender);
            drop(broker);
            told.send(world.try_open().map(|broker| broker.list_topics())).unwrap();
        });
        // If the drop does not wait for the checkpoint, it returns too early.
        let early = reopened.recv_timeout(Duration::from_millis(100));
        barrier.wait();
        let result = early.or_else(|_| reopened.recv()).unwrap();
        assert_eq!(result.unwrap(), ["t"]);
    });
}
