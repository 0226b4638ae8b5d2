//! `shouyin torture` as a user runs it: its report, its exit status, and what it leaves behind.

use std::process::{Command, Output};

fn torture(arguments: &[&str]) -> (Option<i32>, String, usize) {
    let temp = tempfile::tempdir().unwrap();
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_shouyin"))
        .arg("torture")
        .args(arguments)
        .env("TMPDIR", temp.path())
        .output()
        .unwrap();
    let text = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code(), text, std::fs::read_dir(temp.path()).unwrap().count())
}

#[test]
fn what_held_is_reported_and_cleaned_away() {
    let (status, text, left) = torture(&["--only", "rejected,simulation", "--seeds", "3", "--seed", "7"]);
    assert_eq!((status, left), (Some(0), 0), "{text}");
    for words in ["seed: 7", "rejected: I8", "simulation: 3 seeds from 7", "| held", "all held: 0 broken"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn wrong_words_are_usage_and_the_child_is_nobodys() {
    let (status, text, _) = torture(&["--only", "nonsense"]);
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("one of: notices duplicates kills"), "{text}");
    let (status, text, _) = torture(&["--help"]);
    assert_eq!(status, Some(0));
    assert!(text.contains("Exit status: 0 all held, 1 something broke") && !text.contains("child"), "{text}");
    let serve = Command::new(env!("CARGO_BIN_EXE_shouyin")).args(["serve", "child"]).output().unwrap();
    assert_eq!(serve.status.code(), Some(2), "serve knows nothing of it");
}
