//! Typed keys and values.

use std::time::Duration;

use grouplog::serialization::{BoxError, Bytes, Number, Serializer, Text};
use grouplog::{
    Broker, Error, Record, RecordPart, SerializationPlace, TopicConfig, TypedConsumer, TypedRecord,
};

use crate::world::{World, all, refused, tp};

fn broker() -> Broker {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    broker
}

fn consumer(broker: &Broker) -> TypedConsumer<Text, Number<i32>> {
    let mut consumer = broker.consumer("g").unwrap().typed();
    consumer.subscribe(["t"]).unwrap();
    consumer
}

#[test]
fn typed_records_are_kafkas_bytes() {
    let broker = broker();
    let producer = broker.producer().unwrap().typed::<Text, Number<i32>>();
    producer.send(TypedRecord::to("t").key("k").value(&-2).header("h", "v")).unwrap();
    producer.send(TypedRecord::to("t")).unwrap();
    let sent = producer
        .send_all([
            TypedRecord::to("t").value(&1),
            TypedRecord::to("t").key("last").value(&2).null_header("n"),
        ])
        .unwrap();
    assert_eq!(sent.metadata().map(|sent| sent.offset()).collect::<Vec<_>>(), [2, 3]);
    let records = all(&broker, "t");
    assert_eq!(records[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(records[0].value.as_deref(), Some(&[0xff, 0xff, 0xff, 0xfe][..]));
    assert_eq!(records[0].headers, [("h".to_owned(), Some(b"v".to_vec()))]);
    assert_eq!((&records[1].key, &records[1].value), (&None, &None));
    assert_eq!(records[2].value.as_deref(), Some(&[0, 0, 0, 1][..]));
    assert_eq!(records[3].key.as_deref(), Some(&b"last"[..]));

    let mut consumer = consumer(&broker);
    let records = consumer.poll(Duration::ZERO).unwrap();
    let read: Vec<_> =
        records.iter().map(|record| (record.key().unwrap(), record.value().unwrap())).collect();
    let expected = [(Some("k"), Some(-2)), (None, None), (None, Some(1)), (Some("last"), Some(2))];
    assert_eq!(read, expected);
    assert_eq!((records.len(), records.iter().len(), records.is_empty()), (4, 4, false));
    // The consumer can be used while its returned records are being read.
    consumer.commit().unwrap();
    drop(records);
}

#[test]
fn a_poison_record_is_named_and_those_behind_it_are_there() {
    let broker = broker();
    let producer = broker.producer().unwrap();
    producer.send(Record::to("t").key("a").value(&[0, 0, 0, 1])).unwrap();
    producer.send(Record::to("t").key(&[0xc3, 0x28]).value("five!")).unwrap();
    producer.send(Record::to("t").key("c").value(&[0, 0, 0, 3])).unwrap();
    let mut consumer = consumer(&broker);
    let records = consumer.poll(Duration::ZERO).unwrap();
    let good: Vec<i32> = records.iter().filter_map(|record| record.value().ok()?).collect();
    assert_eq!(good, [1, 3]);
    let poison = records.iter().nth(1).unwrap();
    for (error, part) in [
        (refused(poison.key().map(|_| ())), RecordPart::Key),
        (refused(poison.value().map(|_| ())), RecordPart::Value),
    ] {
        assert!(std::error::Error::source(&error).is_some());
        let Error::Serialization(failure) = error else { panic!("{error:?}") };
        assert_eq!(failure.part, part);
        let read = SerializationPlace::Read { partition: tp("t", 0), offset: 1 };
        assert_eq!(failure.place, read);
    }
    assert_eq!(poison.raw().value(), Some(&b"five!"[..]));
    // A program that cannot skip it seeks back to it.
    let offset = poison.offset();
    consumer.seek(&tp("t", 0), offset).unwrap();
    let again = consumer.poll(Duration::ZERO).unwrap();
    assert!(again.iter().next().unwrap().value().is_err());
    assert_eq!(again.len(), 2);
}

/// Refuses odd numbers, and sends a record itself while it serializes.
#[derive(Debug, Clone)]
struct Even(Option<grouplog::Producer>);

impl Serializer for Even {
    type Value = i64;

    fn serialize<'a>(&self, value: &'a i64, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BoxError> {
        assert!(buffer.is_empty());
        if value % 2 == 1 {
            return Err(format!("{value} is odd").into());
        }
        buffer.extend_from_slice(value.to_string().as_bytes());
        if let Some(other) = &self.0 {
            let other = other.clone().typed_with(Bytes, Even(None));
            other.send(TypedRecord::to("t").value(&(value * 10)))?;
        }
        Ok(buffer)
    }
}

#[test]
fn a_value_that_cannot_be_serialized_is_not_sent() {
    let broker = broker();
    let producer = broker.producer().unwrap().typed_with(Even(None), Even(None));
    let error = refused(producer.send(TypedRecord::to("t").key(&2).value(&3)).map(|_| ()));
    assert_eq!(
        error.to_string(),
        "cannot serialize the value of a record for topic \"t\": 3 is odd"
    );
    let error = refused(producer.send(TypedRecord::to("t").key(&5)).map(|_| ()));
    assert!(error.to_string().contains("the key of a record"), "{error}");
    let some = [TypedRecord::to("t").value(&2), TypedRecord::to("t").value(&7)];
    assert!(matches!(refused(producer.send_all(some).map(|_| ())), Error::Serialization(_)));
    assert!(all(&broker, "t").is_empty());
    // A failure leaves nothing behind in the buffers.
    producer.send(TypedRecord::to("t").key(&4).value(&6)).unwrap();
    assert_eq!(all(&broker, "t")[0].value.as_deref(), Some(&b"6"[..]));
}

#[test]
fn a_serializer_may_send_by_itself() {
    let broker = broker();
    let raw = broker.producer().unwrap();
    let producer = raw.clone().typed_with(Bytes, Even(Some(raw)));
    producer.send(TypedRecord::to("t").key(&b"k"[..]).value(&8)).unwrap();
    let values: Vec<_> =
        all(&broker, "t").into_iter().map(|record| record.value.unwrap()).collect();
    assert_eq!(values, [b"80".to_vec(), b"8".to_vec()]);
}

#[test]
fn a_typed_send_all_without_an_end_is_refused_when_it_is_too_large() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap().typed_with(Bytes, Even(None));
    let mut taken = 0;
    let endless = std::iter::repeat_with(|| {
        taken += 1;
        TypedRecord::to("t").value(&2)
    });
    let error = refused(producer.send_all(endless));
    assert!(matches!(error, Error::LimitExceeded { max: 262_144, .. }), "{error}");
    assert!(taken < 50_000, "{taken}");
}
