//! Every kind of place does the same.

use std::path::Path;

use mezze_replica::{Error, Store};

use crate::folder;

async fn behaves(store: &Store) {
    assert_eq!(store.read("a/b").await, Ok(None));
    assert_eq!(store.stat("a/b").await, Ok(None));
    assert_eq!(store.read_range("a/b", 0, 5).await, Ok(None));
    assert_eq!(store.list("a").await, Ok(vec![]));
    assert_eq!(store.delete("a/b").await, Ok(()));

    assert_eq!(store.create("a/b", "first").await, Ok(true));
    assert_eq!(store.create("a/b", "second").await, Ok(false));
    assert_eq!(store.require("a/b").await.expect("it is there"), "first");
    store.replace("a/b", "third").await.expect("it is replaced");
    assert_eq!(store.require("a/b").await.expect("it is there"), "third");
    assert_eq!(store.read_range("a/b", 1, 3).await.expect("it is read").expect("it is there"), "hir");

    let mut object = store.begin("a/c/d").expect("a file");
    object.append(b"piece by ").expect("it is written");
    object.append(b"piece").expect("it is written");
    assert_eq!(store.read("a/c/d").await, Ok(None), "an unfinished object cannot be seen");
    object.finish().await.expect("it is finished");
    assert_eq!(store.require("a/c/d").await.expect("it is there"), "piece by piece");

    store.replace("a/a", "").await.expect("it is written");
    let keys: Vec<(String, u64)> =
        store.list("a").await.expect("it is listed").into_iter().map(|object| (object.key, object.size)).collect();
    assert_eq!(keys, [("a/a".to_owned(), 0), ("a/b".to_owned(), 5), ("a/c/d".to_owned(), 14)]);

    drop(store.begin("a/e").expect("a file"));
    store.delete("a/b").await.expect("it is deleted");
    store.delete("a/c/d").await.expect("it is deleted");
    assert_eq!(store.list("a").await.expect("it is listed").len(), 1);
    assert_eq!(store.stat("a/a").await.expect("it is read").map(|stat| stat.size), Some(0));
}

#[tokio::test]
async fn folders_and_services_behave_alike() {
    let (folder, store) = folder();
    behaves(&store).await;
    let left: Vec<_> = std::fs::read_dir(folder.path().join("tmp")).expect("it is there").collect();
    assert!(left.is_empty(), "unfinished files stay behind: {left:?}");
    behaves(&Store::open("memory:///", Path::new("/")).expect("a store in memory")).await;
}

#[tokio::test]
async fn keys_cannot_leave_the_folder() {
    let (_folder, store) = folder();
    for key in ["../x", "a/../../x", "/etc/passwd", "", "a//b", "./a"] {
        assert_eq!(store.replace(key, "x").await, Err(Error::Refused(format!("`{key}` is no key of an object"))));
    }
}

#[test]
fn places_that_cannot_be_opened_say_why() {
    let message = |location: &str| match Store::open(location, Path::new("/")) {
        Ok(store) => panic!("{store:?} was opened"),
        Err(error) => error.to_string(),
    };
    assert_eq!(message("ftp://host/x"), "cannot open ftp://host/x: Generic URL error: Unable to recognise URL \"ftp://host/x\"");
    let secret = message("s3://user:secret@bucket/x");
    assert!(!secret.contains("secret"), "{secret}");
    let (folder, _store) = folder();
    std::fs::write(folder.path().join("file"), "").expect("it is written");
    assert!(message(folder.path().join("file/x").to_str().expect("it is text")).starts_with("cannot open "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_creators_wins() {
    let (_folder, store) = folder();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let store = store.clone();
        tasks.spawn(async move { store.create("epochs/1", format!("{number}")).await });
    }
    let created = tasks.join_all().await;
    assert_eq!(created.iter().filter(|created| **created == Ok(true)).count(), 1, "{created:?}");
    assert!(created.iter().all(Result::is_ok), "{created:?}");
}
