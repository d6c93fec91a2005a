use super::*;

fn created(catalogue: &mut Catalogue, name: &str, partitions: u32) -> TopicImage {
    let id = TopicId::from_bytes([partitions as u8; 16]);
    let config = TopicConfig::new().partitions(partitions).segment_bytes(4096);
    let change = catalogue.decide_create(name, config, id).unwrap();
    assert_eq!(CatalogueChange::decode(&change.encode().unwrap()).unwrap(), change);
    catalogue.apply(&change).unwrap()
}

#[test]
fn partition_numbers_are_never_reused() {
    let mut catalogue = Catalogue::default();
    let first = created(&mut catalogue, "a", 3);
    assert_eq!(first.numbers().collect::<Vec<_>>(), [0, 1, 2].map(PartitionNumber));
    catalogue.apply(&catalogue.decide_delete("a").unwrap()).unwrap();
    let second = created(&mut catalogue, "a", 2);
    assert_eq!(second.numbers().collect::<Vec<_>>(), [3, 4].map(PartitionNumber));
    assert_eq!(catalogue.deletions().len(), 1);
}

#[test]
fn an_altered_topic_keeps_its_partitions_and_gets_new_numbers() {
    let mut catalogue = Catalogue::default();
    created(&mut catalogue, "a", 2);
    created(&mut catalogue, "b", 1);
    let change = catalogue.decide_add_partitions("a", 4).unwrap();
    assert_eq!(CatalogueChange::decode(&change.encode().unwrap()).unwrap(), change);
    let altered = catalogue.apply(&change).unwrap();
    assert_eq!(altered.numbers().collect::<Vec<_>>(), [0, 1, 3, 4].map(PartitionNumber));
    assert_eq!(altered.config.partitions, 4);
    // A second time fails: the numbers are in use.
    assert_eq!(catalogue.apply(&change), Err(CorruptReason::Field));
    for total in [0, 3, 4, 100_001] {
        let refused = catalogue.decide_add_partitions("a", total);
        assert!(matches!(refused, Err(Error::InvalidConfig { .. })), "{total}");
    }
    let change = catalogue.decide_alter("a", |config| config.set("segment.bytes", "5000")).unwrap();
    assert_eq!(CatalogueChange::decode(&change.encode().unwrap()).unwrap(), change);
    let altered = catalogue.apply(&change).unwrap();
    assert_eq!((altered.config.segment_bytes, altered.config.partitions), (5_000, 4));
    assert!(catalogue.decide_alter("a", |config| Ok(config.segment_bytes(7))).is_err());
    assert!(catalogue.decide_alter("a", |config| Ok(config.partitions(7))).is_err());
    assert!(catalogue.decide_alter("c", Ok).is_err());

    let mut out = Encoder::default();
    catalogue.encode(&mut out);
    let decoded = Catalogue::decode(&mut Decoder::new(&out.out), |_, _| Ok(()));
    assert_eq!(decoded.unwrap(), catalogue);
    let deleted = catalogue.apply(&catalogue.decide_delete("a").unwrap()).unwrap();
    assert_eq!(deleted.numbers().count(), 4);
}

#[test]
fn names_that_would_share_a_folder_are_refused() {
    let mut catalogue = Catalogue::default();
    created(&mut catalogue, "a.b", 1);
    let id = TopicId::from_bytes([9; 16]);
    let refused = |name: &str| catalogue.decide_create(name, TopicConfig::new(), id);
    assert!(matches!(refused("a.b"), Err(Error::TopicExists { .. })));
    for name in ["A.b", "a_b", "A_B"] {
        let reason = NameReason::Collides;
        assert!(matches!(refused(name), Err(Error::InvalidName { reason: r, .. }) if r == reason));
    }
    assert!(refused("a/b").is_err());
}

#[test]
fn a_catalogue_survives_encoding_and_truncation_is_damage() {
    let mut catalogue = Catalogue::default();
    created(&mut catalogue, "a", 3);
    created(&mut catalogue, "b", 1);
    catalogue.apply(&catalogue.decide_delete("a").unwrap()).unwrap();
    let mut out = Encoder::default();
    let mut seen = Vec::new();
    catalogue.encode(&mut out);
    let mut input = Decoder::new(&out.out);
    let decoded = Catalogue::decode(&mut input, |_, number| {
        seen.push(number);
        Ok(())
    });
    assert_eq!(decoded.unwrap(), catalogue);
    assert_eq!(seen, [PartitionNumber(3)]);
    for cut in 0..out.out.len() {
        let mut input = Decoder::new(&out.out[..cut]);
        assert!(Catalogue::decode(&mut input, |_, _| Ok(())).is_err(), "{cut}");
    }
}

#[test]
fn a_change_that_does_not_fit_is_damage() {
    let mut catalogue = Catalogue::default();
    let topic = created(&mut catalogue, "a", 1);
    let again = CatalogueChange::Create(topic);
    assert_eq!(catalogue.apply(&again), Err(CorruptReason::Field));
    let unknown = CatalogueChange::Delete(TopicId::from_bytes([3; 16]));
    assert_eq!(catalogue.apply(&unknown), Err(CorruptReason::Field));
    let id = TopicId::from_bytes([1; 16]);
    for numbers in [Numbers { first: 0, count: 1 }, Numbers { first: u32::MAX, count: 1 }] {
        let given = CatalogueChange::AddPartitions(id, numbers);
        assert_eq!(catalogue.apply(&given), Err(CorruptReason::Field));
    }
    for count in [0, 100_000] {
        let many = CatalogueChange::AddPartitions(id, Numbers { first: 1, count });
        assert_eq!(catalogue.apply(&many), Err(CorruptReason::Count));
    }
    let more = Arc::new(TopicConfig::new().partitions(2));
    assert_eq!(catalogue.apply(&CatalogueChange::Alter(id, more)), Err(CorruptReason::Count));
}

#[test]
fn a_creation_that_does_not_fit_is_damage() {
    let mut catalogue = Catalogue::default();
    let topic = created(&mut catalogue, "a", 2);
    let half = |first| Numbers { first, count: 1 };
    let split = TopicImage { name: "b".into(), ranges: vec![half(2), half(3)], ..topic.clone() };
    assert_eq!(catalogue.apply(&CatalogueChange::Create(split)), Err(CorruptReason::Count));
    // It would share the folder of `a`.
    let next = vec![Numbers { first: 2, count: 2 }];
    let namesake = TopicImage { name: "A".into(), ranges: next, ..topic };
    assert_eq!(catalogue.apply(&CatalogueChange::Create(namesake)), Err(CorruptReason::Field));
    catalogue.next_number = u32::MAX - 1;
    let config = TopicConfig::new().partitions(2);
    let refused = catalogue.decide_create("c", config, TopicId::from_bytes([4; 16]));
    assert!(matches!(refused, Err(Error::LimitExceeded { .. })), "{refused:?}");
}

#[test]
fn an_impossible_catalogue_is_damage() {
    let mut sound = Catalogue::default();
    created(&mut sound, "a", 2);
    created(&mut sound, "b", 1);
    let decode = |change: &dyn Fn(&mut Catalogue)| {
        let mut catalogue = sound.clone();
        change(&mut catalogue);
        let mut out = Encoder::default();
        catalogue.encode(&mut out);
        Catalogue::decode(&mut Decoder::new(&out.out), |_, _| Ok(())).map(|_| ())
    };
    assert_eq!(decode(&|_| {}), Ok(()));
    let topic = |catalogue: &mut Catalogue, change: &dyn Fn(&mut TopicImage)| {
        catalogue.topics.values_mut().for_each(|topic| {
            if &*topic.name == "b" {
                change(topic);
            }
        });
    };
    type Change<'a> = &'a dyn Fn(&mut Catalogue);
    let changes: [(Change<'_>, CorruptReason); 6] = [
        // A number that is not in use yet, one that two partitions have, and one beyond the range.
        (&|catalogue| catalogue.next_number = 2, CorruptReason::Field),
        (&|c| topic(c, &|topic| topic.ranges[0].first = 1), CorruptReason::Field),
        (&|c| topic(c, &|topic| topic.ranges[0].first = u32::MAX), CorruptReason::Field),
        (&|c| topic(c, &|topic| topic.name = "A".into()), CorruptReason::Field),
        (&|c| topic(c, &|topic| topic.ranges.clear()), CorruptReason::Count),
        (
            &|catalogue| {
                let (name, id) = ("c".into(), TopicId::from_bytes([3; 16]));
                catalogue.deletions.push(Deletion { name, id, partitions: 100_001 });
            },
            CorruptReason::Count,
        ),
    ];
    for (number, (change, reason)) in changes.iter().enumerate() {
        assert_eq!(decode(change), Err((*reason).into()), "change {number}");
    }
}

#[test]
fn a_newer_change_is_distinguished_from_damage() {
    let newer = CatalogueChange::decode(&[5, 1, 2]);
    assert_eq!(newer, Err(Unreadable::unsupported("catalogue change kind", 5_u32, 4_u32)));
    assert_eq!(CatalogueChange::decode(&[0]), Err(CorruptReason::Field.into()));

    let mut catalogue = Catalogue::default();
    let topic = created(&mut catalogue, "a", 1);
    let bytes = CatalogueChange::Create(topic).encode().unwrap();
    let renamed = |key: &[u8; 13]| {
        let mut bytes = bytes.clone();
        let at = bytes.windows(13).position(|text| text == b"segment.bytes").unwrap();
        bytes[at..at + 13].copy_from_slice(key);
        CatalogueChange::decode(&bytes)
    };
    assert!(renamed(b"segment.bytes").is_ok());
    let what = "topic setting \"segment.bytex\", number";
    assert_eq!(renamed(b"segment.bytex"), Err(Unreadable::unsupported(what, 1_u32, 19_u32)));
    // A value that no version accepts.
    let at = bytes.windows(10).position(|text| text == b"CreateTime").unwrap();
    let mut damaged = bytes;
    damaged[at] = b'X';
    assert_eq!(CatalogueChange::decode(&damaged), Err(CorruptReason::Field.into()));
}

#[test]
fn a_change_larger_than_its_reserved_journal_space_is_refused() {
    let mut catalogue = Catalogue::default();
    let topic = created(&mut catalogue, "a", 1);
    let ranges = |count| vec![Numbers { first: 0, count: 1 }; count];
    let change =
        |count| CatalogueChange::Create(TopicImage { ranges: ranges(count), ..topic.clone() });
    assert!(change(400).encode().is_ok());
    let refused = change(600).encode();
    assert!(matches!(refused, Err(Error::LimitExceeded { max: 4_088, .. })), "{refused:?}");
}
