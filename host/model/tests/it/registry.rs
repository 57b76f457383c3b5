//! The registry: versions that are written once.

use std::fs;

use mezze_core::Timestamp;
use mezze_model::{Registry, RegistryError, to_json};

use crate::{CREDIT, definitions};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

#[test]
fn what_is_recorded_is_what_is_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = Registry::open("registry", folder.path()).expect("it can be opened");
    let (first, second) = (definitions("entities: [{ name: x }]\n"), definitions(CREDIT));
    block_on(async {
        assert_eq!(registry.latest().await.expect("it can be read"), None);
        registry.append(None, &first, "test", at(1)).await.expect("nobody else is there");
        let written = registry.append(Some(1), &second, "test", at(2)).await.expect("nobody else is there");
        let read = registry.latest().await.expect("it can be read").expect("there are two");
        assert_eq!(read, written);
        assert_eq!(read.definitions, second);
        assert_eq!(registry.version(1).await.expect("it is still there").definitions, first);
        assert_eq!(registry.numbers().await.expect("it can be read"), [1, 2]);
    });
}

#[test]
fn of_two_applies_at_one_time_one_wins() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registries: Vec<Registry> =
        (0..8).map(|_| Registry::open("registry", folder.path()).expect("it can be opened")).collect();
    let definitions = definitions(CREDIT);
    let outcomes: Vec<Result<_, RegistryError>> = std::thread::scope(|scope| {
        let runs: Vec<_> = registries
            .iter()
            .map(|registry| scope.spawn(|| block_on(registry.append(None, &definitions, "test", at(1)))))
            .collect();
        runs.into_iter().map(|run| run.join().expect("it does not panic")).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert!(error.is_conflict(), "{error}");
        assert!(error.to_string().starts_with("version 1 of the registry "), "{error}");
    }
}

#[test]
fn a_damaged_version_is_not_taken_for_another() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = Registry::open("registry", folder.path()).expect("it can be opened");
    let definitions = definitions(CREDIT);
    block_on(async {
        registry.append(None, &definitions, "test", at(1)).await.expect("nobody else is there");
        let path = folder.path().join("registry/00000000000000000001.json");
        let text = fs::read_to_string(&path).expect("it can be read");
        for (from, to) in [("3650d", "3651d"), ("\"format\": 1", "\"format\": 2"), ("\"number\": 1", "\"number\": 2"), ("{", "")]
        {
            fs::write(&path, text.replacen(from, to, 1)).expect("it can be written");
            let error = registry.latest().await.expect_err("it was changed").to_string();
            let expected =
                if from.contains("format") { "has the format 2, this build reads 1; update mezze" } else { "is damaged: " };
            assert!(error.contains(expected), "{error}");
        }
    });
}

#[test]
fn teardown_removes_every_version_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = Registry::open("registry", folder.path()).expect("it can be opened");
    fs::write(folder.path().join("registry/notes.txt"), "mine").expect("it can be written");
    block_on(async {
        registry.append(None, &definitions(CREDIT), "test", at(1)).await.expect("nobody else is there");
        assert_eq!(registry.teardown().await.expect("it can be removed"), 1);
        assert_eq!(registry.latest().await.expect("it can be read"), None);
    });
    assert!(folder.path().join("registry/notes.txt").exists());
}

#[test]
fn the_json_of_definitions_is_a_definition_file() {
    let first = definitions(CREDIT);
    let again = definitions(&to_json(&first).to_string());
    assert_eq!(again, first);
}
