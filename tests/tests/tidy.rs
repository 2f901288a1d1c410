//! How the code must look, as a test: what a linter does not know about this project.
//!
//! Invariant: each rule is a pure function from a file to its complaints, and every complaint names file and line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines of a file before its tests.
const FILE_LINES_MAX: usize = 500;
/// Lines of a file of tests.
const TEST_FILE_LINES_MAX: usize = 1_000;
/// Lines of a function, from its name to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Everything that may stand at the root.
const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".config",
    ".git",
    ".gitignore",
    ".rustfmt.toml",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "connectors",
    "engine",
    "queries",
    "rust-toolchain.toml",
    "sql",
    "tests",
];
/// What running the program or its tests leaves here, and git ignores.
const TOP_LEVEL_IGNORED: &[&str] = &[".headwater", "target", "demo"];

/// Crates that a crate must not know about.
const FORBIDDEN: &[(&str, &[&str])] =
    &[("engine", &["headwater_connectors", "headwater_sql"]), ("connectors", &["headwater_sql"])];

/// What is not left behind in code. The words are cut in two so that this file does not hold them.
const LEFTOVERS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("db", "g!("),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[ig", "nore"),
    concat!("#[al", "low("),
    concat!("thread::sl", "eep("),
];

/// Names of modules that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helper", "helpers", "common", "manager", "misc", "base"];

struct SourceFile {
    path: PathBuf,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn files(folder: &Path, extension: &str, found: &mut Vec<SourceFile>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            let text = fs::read_to_string(&path).unwrap();
            found.push(SourceFile { path: path.strip_prefix(root()).unwrap().to_owned(), text });
        }
    }
}

fn rust_files() -> Vec<SourceFile> {
    let mut found = Vec::new();
    for folder in ["engine", "connectors", "sql", "tests"] {
        files(&root().join(folder), "rs", &mut found);
    }
    assert!(found.len() > 20, "the sources are not where this test looks for them");
    found
}

fn is_test(file: &SourceFile) -> bool {
    file.path.file_name().is_some_and(|name| name == "tests.rs")
        || file.path.components().any(|part| part.as_os_str() == "tests")
}

/// The lines before the module of tests.
fn before_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |end| &text[..end])
}

fn check(rule: impl Fn(&SourceFile) -> Vec<String>) {
    let complaints: Vec<String> = rust_files().iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn at(file: &SourceFile, line: usize, what: &str) -> String {
    format!("{}:{}: {what}", file.path.display(), line + 1)
}

#[test]
fn every_file_says_why_it_exists() {
    check(|file| {
        let starts = file.text.starts_with("//! ") || file.path.ends_with("build.rs");
        if starts { Vec::new() } else { vec![at(file, 0, "begin the file with `//!` and its purpose")] }
    });
}

#[test]
fn files_are_short() {
    check(|file| {
        let (lines, max) = match is_test(file) {
            true => (file.text.lines().count(), TEST_FILE_LINES_MAX),
            false => (before_tests(&file.text).lines().count(), FILE_LINES_MAX),
        };
        if lines <= max { Vec::new() } else { vec![at(file, max, &format!("{lines} lines, at most {max} are read"))] }
    });
}

#[test]
fn functions_are_short() {
    check(|file| {
        let code = if is_test(file) { "" } else { before_tests(&file.text) };
        long_functions(code, FUNCTION_LINES_MAX)
            .into_iter()
            .map(|(line, lines)| at(file, line, &format!("a function of {lines} lines, at most {FUNCTION_LINES_MAX}")))
            .collect()
    });
}

/// Line and length of functions that are too long. The code is formatted: a function ends with a brace as far to the
/// right as its first line.
fn long_functions(code: &str, max: usize) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        if !is_function(line) || line.trim_end().ends_with([';', '}']) {
            continue;
        }
        let margin = &line[..line.len() - line.trim_start().len()];
        let end = lines[first..].iter().position(|line| line.strip_prefix(margin).is_some_and(|rest| rest == "}"));
        let length = end.map_or(0, |end| end + 1);
        if length > max {
            found.push((first, length));
        }
    }
    found
}

fn is_function(line: &str) -> bool {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| word.starts_with("pub") || matches!(*word, "async" | "const" | "extern" | "default" | "in"));
    words.next() == Some("fn")
}

#[test]
fn dependencies_point_one_way() {
    check(|file| {
        let rules = FORBIDDEN.iter().filter(|(crate_, _)| file.path.starts_with(crate_));
        rules
            .flat_map(|(crate_, names)| {
                let lines = file.text.lines().enumerate();
                lines
                    .filter(|(_, line)| names.iter().any(|name| line.contains(name)))
                    .map(|(i, _)| at(file, i, &format!("{crate_} must not know this crate")))
                    .collect::<Vec<_>>()
            })
            .collect()
    });
    for (crate_, names) in FORBIDDEN {
        let manifest = fs::read_to_string(root().join(crate_).join("Cargo.toml")).unwrap();
        for name in *names {
            assert!(!manifest.contains(&name.replace('_', "-")), "{crate_}/Cargo.toml names {name}");
        }
    }
}

#[test]
fn nothing_is_left_behind() {
    check(|file| {
        let lines = file.text.lines().enumerate();
        lines
            .filter_map(|(i, line)| {
                let found = LEFTOVERS.iter().find(|leftover| line.contains(**leftover))?;
                Some(at(file, i, &format!("`{found}` is left behind")))
            })
            .collect()
    });
}

#[test]
fn the_environment_is_read_in_main_only() {
    check(|file| {
        if is_test(file) || file.path.starts_with("tests") || file.path.ends_with("main.rs") {
            return Vec::new();
        }
        let lines = before_tests(&file.text).lines().enumerate();
        lines
            .filter(|(_, line)| line.contains("env::var") || line.contains("env::args"))
            .map(|(i, _)| at(file, i, "take the environment as a parameter"))
            .collect()
    });
}

#[test]
fn modules_have_names_that_say_something() {
    check(|file| {
        let stem = file.path.file_stem().unwrap().to_string_lossy().into_owned();
        let folder = file.path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let empty = EMPTY_NAMES.contains(&stem.as_str()) || EMPTY_NAMES.contains(&folder.as_str());
        if empty { vec![at(file, 0, "the name says nothing about what is inside")] } else { Vec::new() }
    });
}

#[test]
fn every_query_file_is_used_by_a_test() {
    let mut queries = Vec::new();
    files(&root().join("queries"), "sql", &mut queries);
    let mut tests = Vec::new();
    files(&root().join("tests"), "rs", &mut tests);
    for query in queries {
        let path = query.path.strip_prefix("queries").unwrap().to_string_lossy().into_owned();
        let folder = format!("every_file(\"{}\")", query.path.parent().unwrap().display());
        let is_used = tests.iter().any(|test| test.text.contains(&path) || test.text.contains(&folder));
        assert!(is_used, "no test names {}", query.path.display());
    }
}

#[test]
fn the_root_holds_what_it_should() {
    let known = |name: &str| TOP_LEVEL.contains(&name) || TOP_LEVEL_IGNORED.contains(&name);
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known(&name), "{name} at the root: README must say in one line why");
    }
}

/// Several packages have a binary, and the README's first command names none.
#[test]
fn cargo_run_means_headwater() {
    let names_it = |folder: &&str| {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        manifest.lines().any(|line| line == "default-run = \"headwater\"")
    };
    let found: Vec<&str> = ["engine", "connectors", "sql", "tests"].into_iter().filter(names_it).collect();
    assert_eq!(found, ["sql"]);
}

#[test]
fn the_rules_see_what_they_should() {
    let body = "    x();\n".repeat(3);
    let code = format!("impl A {{\n    pub async fn f(\n    ) {{\n{body}    }}\n    fn g() {{}}\n}}\nfn h();\n");
    assert_eq!(long_functions(&code, 4), [(1, 6)]);
    assert_eq!(long_functions(&code, 6), []);
    assert!(is_function("pub(crate) const fn x() {") && !is_function("let f = fn_of();"));
    assert_eq!(before_tests("a\n#[cfg(test)]\nmod tests {\n}"), "a\n");
}
