//! Runs that are killed: whatever was served before is served on, and the next run completes.

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use common::Repo;

/// Objects of the origin, unfinished ones included.
fn objects(folder: &Path) -> usize {
    let mut count = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        // A folder may go while it is looked at.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() { folders.push(entry.path()) } else { count += 1 }
        }
    }
    count
}

fn answer(repo: &Repo) -> String {
    repo.run(&["get-online-features", "--features", "profile:age,profile:name", "-e", "user_id=3", "--output", "json"])
}

#[test]
fn a_run_that_is_killed_leaves_what_was_served_and_the_next_completes() {
    let repo = Repo::every_type();
    repo.run(&["apply"]);
    repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
    let mut before = answer(&repo);
    let mut killed = 0;
    for round in 0..24 {
        // Other values at every round, so that there is something to write.
        let day = round + 1;
        repo.write(
            "data/users/9.json",
            &format!(
                "{{\"user_id\": 3, \"ts\": \"2026-03-{day:02}T00:00:00Z\", \"age\": {round}, \"name\": \"round {round}\"}}\n"
            ),
        );
        let folder = repo.path("data/replica");
        let start = objects(&folder);
        let arguments = ["materialize-incremental", "2030-01-01", "--compact"];
        let mut run = repo.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it can be run");
        // Killed as soon as so many objects are there: at another step of the run every time.
        let ended = loop {
            if let Some(status) = run.try_wait().expect("it can be asked") {
                break Some(status);
            }
            if objects(&folder) >= start + round % 12 {
                break None;
            }
        };
        if ended.is_none() {
            run.kill().expect("it can be killed");
            run.wait().expect("it ends");
            killed += 1;
        }
        let after = answer(&repo);
        let expected = format!("\"round {round}\"");
        assert!(after == before || after.contains(&expected), "round {round}: {after}");
        repo.run(&arguments);
        before = answer(&repo);
        assert!(before.contains(&expected), "round {round}: {before}");
    }
    assert!(killed >= 8, "only {killed} runs were killed");
    // What the killed runs left is of no snapshot, and goes.
    repo.run(&["prune", "--keep", "1"]);
    assert_eq!(answer(&repo), before);
}

#[test]
fn two_runs_at_one_time_give_one_epoch_each_or_lose_with_their_own_exit_code() {
    let repo = Repo::every_type();
    repo.run(&["apply"]);
    let arguments = ["materialize", "2020-01-01", "2030-01-01", "--output", "json"];
    let spawn = || repo.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be run");
    let runs: Vec<_> = (0..4).map(|_| spawn()).collect();
    let mut won = 0;
    for run in runs {
        let output = run.wait_with_output().expect("it ends");
        match output.status.code() {
            Some(0) => won += 1,
            Some(3) => {}
            code => panic!("exit code {code:?}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
    assert!(won >= 1);
    let status: serde_json::Value = serde_json::from_str(&repo.run(&["status", "--output", "json"])).expect("it is JSON");
    assert_eq!(status["places"][0]["epoch"], 1);
}
