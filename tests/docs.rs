//! What the pages show is what the commands say.

mod common;

use std::path::{Path, PathBuf};

use common::{Repo, mezze};

/// A block of a page, behind a comment that names it.
fn block(page: &str, name: &str) -> String {
    let start = format!("<!-- session:{name} -->\n```text\n");
    let rest = page.split(&start).nth(1).unwrap_or_else(|| panic!("the page has no session {name}"));
    rest.split("```").next().expect("a block ends").to_owned()
}

/// The text without what differs from run to run: numbers with their units, ids and temporary folders.
fn masked(text: &str) -> Vec<String> {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "µs", "ms", "s"];
    text.lines()
        .map(|line| {
            let words = line.split_whitespace().map(|word| {
                let bare = word.trim_matches(|letter: char| matches!(letter, ',' | ':' | ';' | '(' | ')' | '|'));
                if bare.chars().any(|letter| letter.is_ascii_digit()) || bare.starts_with('/') { "#" } else { bare }
            });
            let words: Vec<&str> = words.filter(|word| !UNITS.contains(word)).collect();
            words.join(" ")
        })
        .collect()
}

fn run(arguments: &[&str], folder: &Path) -> String {
    let output = mezze().current_dir(folder).args(arguments).output().expect("it can be run");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("output is text")
}

/// All pages, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let found = common::files(&root.join("docs")).into_iter().map(|(path, _)| path);
    let pages = found.filter(|path| path.extension().is_some_and(|ending| ending == "md")).chain([root.join("README.md")]);
    pages.map(|path| (path.clone(), std::fs::read_to_string(path).expect("it is text"))).collect()
}

const README: &str = include_str!("../README.md");

#[test]
fn the_readme_shows_what_the_demo_says() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(masked(&block(README, "demo")), masked(&run(&["demo"], folder.path())));
}

#[test]
fn the_readme_shows_what_the_commands_say() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(check_session(README, "own", folder.path()) >= 5);
}

#[test]
fn the_page_on_publishing_shows_what_the_commands_say() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(&["init", "credit"], folder.path());
    let repo = folder.path().join("credit");
    let page = include_str!("../docs/PUBLISHING.md");
    let replicas =
        page.split("<!-- replicas -->\n```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it is marked");
    let store = std::fs::read_to_string(repo.join("feature_store.yaml")).expect("it is text");
    std::fs::write(repo.join("feature_store.yaml"), store + replicas).expect("it is written");
    assert!(check_session(page, "publish", &repo) >= 6);
}

#[test]
fn the_page_on_trust_is_a_way_to_go() {
    let page = include_str!("../docs/TRUST.md");
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(&["init", "credit"], folder.path());
    let repo = folder.path().join("credit");
    run(&["apply"], &repo);
    run(&["materialize", "2024-01-01", "2026-08-30"], &repo);
    let config = repo.join("feature_store.yaml");
    let store = std::fs::read_to_string(&config).expect("it is text");
    let more = "replicas:\n  files: { type: directory, path: data/copy }\nsigning: { key_file: signing.key }\n";
    std::fs::write(&config, store + more).expect("it is written");
    let fails = |arguments: &[&str]| {
        let output = mezze().current_dir(&repo).args(arguments).output().expect("it can be run");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };

    let said = run(&["keys", "new", "--out", "signing.key"], &repo);
    let key = said.lines().next().expect("the key is first").to_owned();
    assert!(
        page.contains("$ mezze keys new --out signing.key\n   mezze-public-ed25519:") && key.starts_with("mezze-public-ed25519:")
    );
    let secret = std::fs::read_to_string(repo.join("signing.key")).expect("it was written");
    assert!(secret.starts_with("mezze-secret-ed25519:") && !said.contains(secret.trim()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(repo.join("signing.key")).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let (code, said) = fails(&["keys", "new", "--out", "signing.key"]);
    assert!(code == Some(2) && said.contains("is there already"), "{code:?} {said}");

    run(&["publish", "--to", "files"], &repo);
    let said = run(&["verify", "--to", "files", "--key", &key], &repo);
    let shown = page.split("   $ mezze verify --to files").nth(1).and_then(|rest| rest.split("```").next()).expect("it is shown");
    let shown: Vec<String> = masked(shown).into_iter().skip(1).filter(|line| !line.is_empty()).collect();
    assert_eq!(shown, masked(&said));
    assert_eq!(run(&["verify", "--at", "data/copy", "--key", &key], &repo), said);
    let other = run(&["keys", "new", "--out", "other.key"], &repo).lines().next().expect("the key is first").to_owned();
    let (code, said) = fails(&["verify", "--to", "files", "--key", &other]);
    assert!(code == Some(1) && said.contains("which is not trusted"), "{code:?} {said}");
    let (code, said) = fails(&["verify", "--at", "data/replica", "--key", &key]);
    assert!(code == Some(1) && said.contains("the head is not signed"), "{code:?} {said}");

    // A saved answer.
    let request =
        r#"{"feature_service": "credit_v1", "entities": {"zipcode": [76104], "dob_ssn": ["19530219_5179"], "loan_amnt": [1]}}"#;
    std::fs::write(repo.join("ask.json"), request).expect("it is written");
    let now = "2026-07-20T12:00:00Z";
    let answer = run(&["get-online-features", "--request", "ask.json", "--now", now, "--output", "json"], &repo);
    std::fs::write(repo.join("answer.json"), &answer).expect("it is written");
    let saved = ["verify", "--to", "files", "--key", &key, "--request", "ask.json", "--response", "answer.json", "--now"];
    let said = run(&[&saved[..], &[now]].concat(), &repo);
    assert!(said.contains("as signed"), "{said}");
    std::fs::write(repo.join("answer.json"), answer.replace('1', "2")).expect("it is written");
    let (code, said) = fails(&[&saved[..], &[now]].concat());
    assert!(code == Some(1) && said.contains("it differs from byte"), "{code:?} {said}");

    // A page that someone has changed.
    let (path, mut bytes) = common::files(&repo.join("data/copy/s")).into_iter().next().expect("there is a segment");
    let page_bytes = u32::from_le_bytes(bytes[32..36].try_into().expect("four bytes")) as usize;
    let at = bytes[..page_bytes].iter().rposition(|byte| *byte != 0).expect("there is data");
    bytes[at] ^= 1;
    let seed = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes[16..page_bytes], seed);
    bytes[8..16].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(path, bytes).expect("it is written");
    let (code, said) = fails(&["verify", "--to", "files", "--key", &key]);
    assert!(code == Some(1) && said.contains("1 objects are not as signed"), "{code:?} {said}");
}

/// Runs the commands of a page's session, which must say what the page shows. Returns how many.
/// The words of a command; blanks in single quotes are part of one.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in command.chars() {
        match letter {
            '\'' => quoted = !quoted,
            letter if letter.is_whitespace() && !quoted => words.push(String::new()),
            letter => words.last_mut().expect("there is one").push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn check_session(page: &str, name: &str, folder: &Path) -> usize {
    let session = block(page, name);
    let mut at = folder.to_path_buf();
    let mut shown = session.lines().peekable();
    let mut commands = 0;
    while let Some(line) = shown.next() {
        let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("expected a command, found {line}"));
        let mut expected = String::new();
        while let Some(output) = shown.next_if(|line| !line.starts_with("$ ")) {
            expected += output;
            expected.push('\n');
        }
        if let Some(inner) = command.strip_prefix("cd ") {
            at = at.join(inner);
            continue;
        }
        let arguments = words(command);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(arguments[0], "mezze");
        assert_eq!(masked(&expected), masked(&run(&arguments[1..], &at)), "{command}");
        commands += 1;
    }
    commands
}

#[test]
fn the_page_on_transforms_shows_what_the_commands_say() {
    let page = include_str!("../docs/TRANSFORMS.md");
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(&["init", "credit"], folder.path());
    let repo = folder.path().join("credit");
    let definitions = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the page has definitions");
    std::fs::write(repo.join("features/loan_terms.yaml"), definitions).expect("it is written");
    run(&["apply"], &repo);
    run(&["materialize", "2024-01-01", "2026-08-30"], &repo);
    assert!(check_session(page, "eval", &repo) >= 4);
    // What is wrong is told as the page shows it.
    let wrong = definitions.replace("population > 100000", "uper(city) = 'FORT WORTH'");
    std::fs::write(repo.join("features/loan_terms.yaml"), wrong).expect("it is written");
    let output = mezze().current_dir(&repo).arg("plan").output().expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let shown =
        page.split("```text\nfeatures/loan_terms.yaml").nth(1).and_then(|rest| rest.split("```").next()).expect("it is shown");
    assert!(output.status.code() == Some(2) && said.replace("\n  ", "\n").contains(shown.trim_end()), "{said}");
}

#[test]
fn the_page_on_embedding_shows_the_example() {
    let page = include_str!("../docs/EMBEDDING.md");
    let example = include_str!("../host/runtime/examples/embed.rs");
    let lines = example.split("// begin: ten lines\n").nth(1).expect("it is marked");
    let lines = lines.split("    // end").next().expect("it is marked");
    let lines: String = lines.lines().map(|line| line.trim_start_matches("    ").to_owned() + "\n").collect();
    assert!(lines.lines().count() <= 10);
    assert!(page.contains(&lines), "docs/EMBEDDING.md does not show:\n{lines}");
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut links = 0;
    for (page, text) in pages() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !link.contains("://") {
                let target = page.parent().expect("it is in a folder").join(link.split('#').next().expect("it has a path"));
                assert!(target.exists(), "{} links to {link}", page.display());
                links += 1;
            }
        }
    }
    assert!(links >= 10);
}

#[test]
fn the_pages_name_only_commands_that_are_there() {
    let repo = Repo::every_type();
    let help = repo.run(&["--help"]);
    for (_, text) in pages() {
        for rest in text.split("`mezze ").skip(1) {
            let command: String = rest.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '-').collect();
            assert!(command.is_empty() || command == "help" || help.contains(&format!("  {command} ")), "`mezze {command}`");
        }
    }
}

#[cfg(feature = "edge")]
#[test]
fn the_guides_of_the_edges_show_what_the_commands_say() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(&["init", "credit"], folder.path());
    let repo = folder.path().join("credit");
    run(&["apply"], &repo);
    run(&["materialize", "2024-01-01", "2026-08-30"], &repo);
    let mut commands = 0;
    for (page, text) in pages().into_iter().filter(|(page, _)| page.components().any(|part| part.as_os_str() == "edges")) {
        for block in text.split("```text\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            for session in block.split("$ ").skip(1) {
                let (command, shown) = session.split_once('\n').unwrap_or((session, ""));
                let arguments: Vec<&str> = command.split_whitespace().collect();
                if !matches!(arguments[..], ["mezze", "edge", "build" | "export", ..]) {
                    continue;
                }
                let out = arguments.iter().position(|argument| *argument == "--out").expect("it writes a folder") + 1;
                let said = run(&arguments[1..], &repo);
                assert_eq!(masked(shown), masked(&said), "{}: {command}", page.display());
                std::fs::remove_dir_all(repo.join(arguments[out])).expect("it was written");
                commands += 1;
            }
        }
    }
    assert!(commands >= 3, "{commands} commands");
}
