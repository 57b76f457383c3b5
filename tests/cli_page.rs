//! docs/CLI.md is what `--help` says.

mod common;

use std::path::Path;

use common::mezze;

/// The help of a command as a section.
fn section(path: &[&str]) -> String {
    let mut command = mezze();
    command.args(path).arg("--help").env("COLUMNS", "100");
    let output = command.output().expect("it can be run");
    let help = String::from_utf8(output.stdout).expect("help is text");
    let help: String = help.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    format!("## mezze {}\n\n```text\n{}```\n\n", path.join(" "), help.trim_end().to_owned() + "\n")
}

#[test]
fn the_page_on_the_command_line_is_what_help_says() {
    let top = String::from_utf8(mezze().arg("--help").output().expect("it can be run").stdout).expect("help is text");
    let commands = top.split("Commands:\n").nth(1).expect("there are commands");
    let commands = commands.split("\n\n").next().expect("the list ends");
    let names: Vec<&str> = commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.len() >= 20, "{names:?}");
    let mut page = "# The command line\n\nWhat `mezze COMMAND --help` says, all of it. A test keeps this page true; \
                    `UPDATE_EXPECT=1 cargo test -p mezze-cli --test cli_page` writes it anew.\n\n"
        .to_owned();
    for name in names {
        page += &section(&[name]);
        if name == "edge" {
            for inner in ["build", "dev", "export"] {
                page += &section(&[name, inner]);
            }
        }
        if name == "transform" {
            for inner in ["new", "build", "test"] {
                page += &section(&[name, inner]);
            }
        }
        if name == "cluster" {
            for inner in ["executor", "scheduler"] {
                page += &section(&[name, inner]);
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/CLI.md");
    expect_test::expect_file![path].assert_eq(&page);
}
