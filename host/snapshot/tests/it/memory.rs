//! Runs with little memory: the same snapshots, and temporary files that leave nothing behind.

use super::*;

/// Every file of an origin with its bytes, but for those that tell the time.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("it can be listed") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it is within").display().to_string();
                found.insert(name, std::fs::read(&path).expect("it can be read"));
            }
        }
    }
    found
}

/// Users in an order that has nothing to do with that of their hashes; every seventh has no `x`, every third no creation time.
fn users(count: i64, shift: i64, changed: i64) -> Vec<Row> {
    (0..count)
        .map(|number| {
            let user = number * 7919 % count;
            let x = (user % 7 != 0).then_some(if user < changed { -user } else { user });
            let created = (user % 3 != 0).then_some(user % 11);
            (user, 1_000 + user % 500 + shift, created, x, Some(format!("text {}", user % 90)))
        })
        .collect()
}

/// The origin after a base, a second view, a shift of all times with few changes, a forgotten user, a compaction, and fewer rows
/// than were retained; and how many parts the largest table was built in at the most.
fn history(memory: Option<usize>) -> (BTreeMap<String, Vec<u8>>, u32) {
    let mut world = World::new();
    world.memory = memory;
    let mut parts = 0;
    let mut note = |report: MaterializeReport| {
        parts = parts.max(report.tables.iter().map(|table| table.parts).max().unwrap_or(0));
        report
    };
    note(world.run(vec![a_rows(&users(5_000, 0, 0))], false));
    let b: Vec<_> = (0..4_000).map(|user| (user, 2_000 + user % 5, user as f64 / 8.0)).collect();
    // Two of three values of the table are new: folded, so that the next delta is small.
    note(world.run(vec![b_rows(&b)], true));
    let delta = note(world.run(vec![a_rows(&users(5_000, 100, 20))], false));
    assert!(delta.tables.iter().any(|table| table.delta_rows == 17 && !table.rebuilt), "{delta:?}");
    let again = note(world.run(vec![a_rows(&users(5_000, 100, 20))], false));
    assert_eq!(again.record, None, "equal rows change nothing");
    world.forget(17);
    note(world.run(vec![], true));
    world.definitions = definitions(&DEFINITIONS.replacen("retain: 0", "retain: 300ns", 1));
    note(world.run(vec![a_rows(&users(100, 500, 0))], true));
    (files(world.folder.path()), parts)
}

#[test]
fn any_memory_gives_the_same_bytes() {
    let (expected, parts) = history(None);
    assert_eq!(parts, 1);
    assert!(expected.keys().any(|name| name.starts_with("c/")), "creation times are written");
    for memory in [100_000, 700_000] {
        let (found, parts) = history(Some(memory));
        assert!(parts > 1, "{memory}: {parts} parts");
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "{memory}");
        for (name, bytes) in &found {
            assert!(expected.get(name) == Some(bytes), "{memory}: {name} differs");
        }
    }
}

#[test]
fn a_temporary_folder_that_is_not_there_is_named() {
    let world = World::new();
    let origin = world.origin();
    let folder = world.folder.path().join("none");
    let mut run = Materialize::new(&origin, &world.definitions, Timestamp::from_nanos(5));
    run.memory = Some(1_000);
    run.temp_folder = Some(&folder);
    let rows = vec![a_rows(&users(100, 0, 0))];
    let error = world.runtime.block_on(run.run(rows, &mezze_snapshot::BuildState::default())).expect_err("there is no folder");
    let text = error.to_string();
    assert!(text.starts_with(&format!("temporary files in {}: ", folder.display())), "{text}");
    assert!(text.ends_with("give another folder with --temp-folder, or more --memory"), "{text}");
}
