use std::fs;
use std::path::Path;
use std::process::Command;

use mezze_replica::Store;

use crate::vendors::faults::{At, Fault, Kind, When, Work};
use crate::vendors::s3::S3;

/// Runs one of the tests below in a process of its own, whose environment leads to the server.
fn run(s3: &S3, test: &str) {
    let mut command = Command::new(std::env::current_exe().expect("a test is a program"));
    s3.configure(command.args(["--exact", test, "--ignored", "--nocapture"]).env("MEZZE_TEST_STORE", s3.url("origin")));
    let output = command.output().expect("it can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

fn store() -> Store {
    let location = std::env::var("MEZZE_TEST_STORE").expect("another test runs this one");
    Store::open(&location, Path::new("/")).expect("it is the URL of a store")
}

#[test]
fn a_store_reads_and_writes_objects() {
    let s3 = S3::start();
    // More than fit into one page of a listing.
    let folder = s3.bucket().join("origin/many");
    fs::create_dir_all(&folder).expect("the folder can be made");
    for number in 0..LISTED {
        fs::write(folder.join(number.to_string()), "").expect("the file can be written");
    }
    run(&s3, "s3::objects");
    let calls = s3.calls();
    assert!(calls.iter().filter(|call| call.kind == Kind::List).count() > 2, "a listing has pages");
    let is_part = |call: &&crate::vendors::faults::Call| call.kind == Kind::Other && call.method == "PUT";
    assert_eq!(calls.iter().filter(is_part).count(), 3, "a large object goes in parts");
    assert!(s3.bucket().join("origin/large").exists());
}

#[tokio::test]
#[ignore = "another test runs it in a process of its own"]
async fn objects() {
    let store = store();
    assert_eq!(store.read("head").await, Ok(None));
    assert_eq!(store.stat("head").await, Ok(None));
    store.replace("head", "one").await.expect("it can be written");
    store.replace("head", "0123456789").await.expect("it can be replaced");
    assert_eq!(store.read("head").await, Ok(Some("0123456789".into())));
    assert_eq!(store.read_range("head", 2, 3).await, Ok(Some("234".into())));
    assert_eq!(store.read_range("head", 8, 10).await, Ok(Some("89".into())));
    assert_eq!(store.read_range("none", 0, 1).await, Ok(None));
    assert_eq!(store.stat("head").await.expect("it can be asked").map(|stat| stat.size), Some(10));

    assert_eq!(store.create("m/1", "one").await, Ok(true));
    assert_eq!(store.create("m/1", "two").await, Ok(false));
    assert_eq!(store.read("m/1").await, Ok(Some("one".into())));
    store.replace("m/2/x", "").await.expect("it can be written");
    store.replace("mm/3", "").await.expect("it can be written");
    let keys: Vec<String> = store.list("m").await.expect("it can be listed").into_iter().map(|stat| stat.key).collect();
    assert_eq!(keys, ["m/1", "m/2/x"]);
    assert_eq!(store.list("none").await.expect("it can be listed").len(), 0);
    assert_eq!(store.list("many").await.expect("it can be listed").len(), LISTED);

    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut writer = store.begin("large").expect("it can be begun");
    writer.append(&large).expect("it can be written");
    writer.finish().await.expect("it can be finished");
    assert!(store.read("large").await.expect("it can be read").expect("it is there") == large);
    assert_eq!(store.read_range("large", 4_000_000, 4).await, Ok(Some(1_000_000_u32.to_le_bytes().to_vec().into())));

    store.delete("m/1").await.expect("it can be deleted");
    store.delete("m/1").await.expect("it may be gone");
    assert_eq!(store.create("m/1", "three").await, Ok(true));
}

#[test]
fn of_those_who_create_an_object_at_one_time_one_wins() {
    run(&S3::start(), "s3::creators");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
#[ignore = "another test runs it in a process of its own"]
async fn creators() {
    let store = store();
    for round in 0..20 {
        let key = format!("m/{round}");
        let creators: Vec<_> = (0..8)
            .map(|creator| {
                let (store, key) = (store.clone(), key.clone());
                tokio::spawn(async move { store.create(&key, creator.to_string()).await.expect("it can be asked") })
            })
            .collect();
        let mut winners = Vec::new();
        for (number, creator) in creators.into_iter().enumerate() {
            if creator.await.expect("it ends") {
                winners.push(number.to_string());
            }
        }
        let read = store.read(&key).await.expect("it can be read").expect("it is there");
        assert_eq!(winners, [String::from_utf8(read.into()).expect("it is text")], "round {round}");
    }
}

#[test]
fn faults_between_a_store_and_its_objects_can_be_planned() {
    let s3 = S3::start();
    s3.plan(When::Kind(Kind::Write, 1), Fault::Status(503));
    s3.plan(When::Kind(Kind::Write, 3), Fault::ConnectionCut(Work::NotDone));
    s3.plan(When::Kind(Kind::Write, 5), Fault::ConnectionCut(Work::Done));
    s3.plan(When::Kind(Kind::Write, 8), Fault::ConnectionCut(Work::Done));
    s3.plan(When::Kind(Kind::Read, 1), Fault::ResponseCut(At::Body));
    run(&s3, "s3::retries");
    let writes = s3.calls().into_iter().filter(|call| call.kind == Kind::Write);
    let said: Vec<Option<u16>> = writes.map(|call| call.status).collect();
    assert_eq!(
        said,
        [Some(503), Some(200), None, Some(200), None, Some(200), Some(412), None, Some(412)],
        "each is tried again until it is answered"
    );
}

#[tokio::test]
#[ignore = "another test runs it in a process of its own"]
async fn retries() {
    let store = store();
    store.replace("a", "a").await.expect("it is tried again");
    store.replace("b", "b").await.expect("it is tried again");
    store.replace("c", "0123456789").await.expect("it is tried again");
    assert_eq!(store.read("c").await, Ok(Some("0123456789".into())));
    assert_eq!(store.create("c", "again").await, Ok(false));
    // It was written, and the client's second try found it there: `false` is no proof that another wrote it.
    assert_eq!(store.create("d", "d").await, Ok(false));
    assert_eq!(store.read("d").await, Ok(Some("d".into())));
}

const LISTED: usize = 2_500;
