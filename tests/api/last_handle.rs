//! What dropping the last handle leaves.

use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use grouplog::{Broker, Record, TopicConfig};

use crate::faulty::{Act, Faulty};
use crate::world::{World, tp};

/// The engine's own threads hold it while they work; the last handle must not leave the end to them.
#[test]
fn dropping_the_last_handle_in_the_middle_of_a_checkpoint_frees_the_folder() {
    let world = World::new();
    let storage = Faulty::new(world.storage.clone());
    let config = world.config.clone().background(true);
    let broker = Broker::open_storage(Arc::new(storage.clone()), config).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let sender = broker.producer().unwrap();
    sender.send(Record::to("t").value("kept")).unwrap().wait().unwrap();
    let barrier = Arc::new(Barrier::new(2));
    storage.order("write", "checkpoint.", Act::Meet(Arc::clone(&barrier)));
    // It asks the background thread for a checkpoint.
    broker.admin().delete_records(&tp("t", 0), 1).unwrap();
    barrier.wait();
    storage.heal();
    let (told, reopened) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            drop(sender);
            drop(broker);
            told.send(world.try_open().map(|broker| broker.list_topics())).unwrap();
        });
        // The drop waits for the checkpoint, or is done with it too early.
        let early = reopened.recv_timeout(Duration::from_millis(100));
        barrier.wait();
        let result = early.or_else(|_| reopened.recv()).unwrap();
        assert_eq!(result.unwrap(), ["t"]);
    });
}
