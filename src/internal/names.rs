use std::path::{Component, Path};

use super::input::Input;
use crate::segment::{deleted_folder_name, file_name, folder_name, parse_file_name};
use crate::types::{TopicId, check_group_name, check_topic_name, fold};

/// Takes any bytes as two names. A topic name is valid exactly if rule F29 allows it. Its folders lie inside
/// the root, and no other topic name makes the same ones. Writing a recognised file name gives the same name.
pub fn fuzz_names(data: &[u8]) {
    let mut input = Input::new(data);
    let partition = u32::from(input.u16());
    let len = usize::from(input.u8());
    let (first, second) = (input.bytes(len), input.rest);
    let (first, second) = (String::from_utf8_lossy(first), String::from_utf8_lossy(second));
    for name in [&*first, &*second] {
        assert_eq!(check_topic_name(name).is_ok(), is_topic_name(name), "{name:?}");
        assert_eq!(check_group_name(name).is_ok(), is_group_name(name), "{name:?}");
        if let Some(parsed) = parse_file_name(name)
            && parsed.suffix.is_none()
        {
            assert_eq!(file_name(parsed.id, parsed.extension), name);
        }
    }
    if check_topic_name(&first).is_ok() && check_topic_name(&second).is_ok() {
        folders(&first, &second, partition);
    }
}

fn folders(first: &str, second: &str, partition: u32) {
    let id = TopicId::from_bytes([first.len() as u8; 16]);
    let folders =
        |topic: &str| [folder_name(topic, partition), deleted_folder_name(topic, partition, id)];
    for folder in folders(first).into_iter().chain(folders(second)) {
        let mut parts = Path::new(&folder).components();
        assert!(matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none());
        assert!(folder.len() <= 255 && folder.is_ascii());
        assert_eq!(
            parse_file_name(&folder),
            None,
            "the name of a folder is not that of a segment file"
        );
    }
    let [of_first, deleted] = folders(first);
    let [of_second, other_deleted] = folders(second);
    assert_ne!(of_first, other_deleted);
    assert_ne!(of_second, deleted);
    // If case is folded, names that do not fold alike still have folders of their own.
    if fold(first) != fold(second) {
        assert_ne!(of_first.to_ascii_lowercase(), of_second.to_ascii_lowercase());
    }
}

/// F29, implemented a second time: 1 to 249 of `[A-Za-z0-9._-]`, not `.` or `..`, and no device of Windows.
fn is_topic_name(name: &str) -> bool {
    const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_' || c == '-';
    let stem: String = name.chars().take_while(|c| *c != '.').collect::<String>().to_lowercase();
    let port = |kind: &str| (1..=9).any(|number| stem == format!("{kind}{number}"));
    (1..=249).contains(&name.len())
        && name.chars().all(allowed)
        && !matches!(name, "." | "..")
        && !DEVICES.contains(&stem.as_str())
        && !port("com")
        && !port("lpt")
}

fn is_group_name(name: &str) -> bool {
    (1..=249).contains(&name.len()) && !name.chars().any(char::is_control)
}
