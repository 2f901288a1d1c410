//! Runs statements recorded from a real Trino and compares what Headwater answers.
//!
//! Invariant: right means values, the order asked for, types by family (precision for decimals and timestamps), and
//! errors by code. Doubles agree to a billionth.
//! What is known to differ is in `differs.tsv`, each statement with its reason (`file<TAB>statement<TAB>reason`): any
//! other that differs fails, and so does one in it that no longer does, unless its reason begins `by chance: `.
//! `TRINO_CASES=part` runs the statements that contain the part and prints what differs; `TRINO_FILE=cases.tsv` has
//! `recorded` run that file instead of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use futures::{FutureExt, TryStreamExt};
use headwater_sql::{
    diagnostics,
    kernels::render,
    session::{Outcome, Session, SessionConfig},
    types::Type,
};
use serde_json::{Value, json};

/// A recorded statement.
struct Case {
    family: String,
    statement: String,
    answer: String,
}

fn cases(text: &str) -> Vec<Case> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .filter_map(|line| {
            let mut parts = line.splitn(3, '\t');
            let (family, statement, answer) = (parts.next()?, parts.next()?, parts.next()?);
            Some(Case {
                family: family.to_owned(),
                statement: serde_json::from_str(statement).ok()?,
                answer: answer.to_owned(),
            })
        })
        .collect()
}

struct Answer {
    types: Vec<String>,
    names: Vec<String>,
    rows: Vec<Vec<Value>>,
}

async fn answer(session: &Session, sql: &str) -> Result<Answer, String> {
    let statements = session.parse(&sql.replace("${", "$${")).map_err(|error| format!("{}: {error}", error.code()))?;
    if statements.len() > 1 {
        return Err("SYNTAX_ERROR: several statements".into());
    }
    let statement = statements.first().ok_or("no statement")?;
    let outcome = session.execute(statement).await.map_err(|error| format!("{}: {error}", error.code()))?;
    let Outcome::Rows { stream, .. } = outcome else { return Err("no rows".into()) };
    let schema = stream.schema();
    let batches: Vec<_> = stream
        .try_collect()
        .await
        .map_err(diagnostics::classify)
        .map_err(|error| format!("{}: {error}", error.code()))?;
    let types: Vec<Type> = schema.fields().iter().map(|field| Type::from_field(field)).collect();
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            rows.push(batch.columns().iter().zip(&types).map(|(column, of)| cell(column, of, row)).collect());
        }
    }
    Ok(Answer {
        types: types.iter().map(Type::to_string).collect(),
        names: schema.fields().iter().map(|field| field.name().clone()).collect(),
        rows,
    })
}

/// A value as Trino's protocol writes it.
fn cell(column: &ArrayRef, of: &Type, row: usize) -> Value {
    if column.is_null(row) || matches!(of, Type::Unknown) {
        return Value::Null;
    }
    let float = |value: f64| {
        if value.is_finite() {
            json!(value)
        } else if value.is_nan() {
            json!("NaN")
        } else if value > 0.0 {
            json!("Infinity")
        } else {
            json!("-Infinity")
        }
    };
    match of {
        Type::Boolean => json!(column.as_boolean().value(row)),
        Type::Tinyint => json!(column.as_primitive::<Int8Type>().value(row)),
        Type::Smallint => json!(column.as_primitive::<Int16Type>().value(row)),
        Type::Integer => json!(column.as_primitive::<Int32Type>().value(row)),
        Type::Bigint => json!(column.as_primitive::<Int64Type>().value(row)),
        Type::Real => float(column.as_primitive::<Float32Type>().value(row).to_string().parse().unwrap_or(f64::NAN)),
        Type::Double => float(column.as_primitive::<Float64Type>().value(row)),
        Type::Varbinary => {
            use base64::Engine;
            json!(base64::engine::general_purpose::STANDARD.encode(column.as_binary::<i32>().value(row)))
        }
        Type::Array(inner) => {
            let list = column.as_list::<i32>().value(row);
            Value::Array((0..list.len()).map(|at| cell(&list, inner, at)).collect())
        }
        Type::Map(key, value) => {
            let entries = column.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let mut map = serde_json::Map::new();
            for at in 0..entries.len() {
                let name = match cell(keys, key, at) {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                map.insert(name, cell(values, value, at));
            }
            Value::Object(map)
        }
        Type::Row(fields) => {
            let parts = column.as_struct();
            Value::Array(
                fields.iter().enumerate().map(|(index, (_, inner))| cell(parts.column(index), inner, row)).collect(),
            )
        }
        Type::Other(_) => json!(arrow::util::display::array_value_to_string(column, row).unwrap_or_default()),
        _ => {
            let texts = render::texts(&column.slice(row, 1), of).unwrap_or_default();
            texts.into_iter().next().flatten().map_or(Value::Null, Value::String)
        }
    }
}

/// A type without what the comparison leaves out: lengths of text, blanks.
fn family(text: &str) -> String {
    let mut out = text.to_lowercase().replace(", ", ",").replace('"', "");
    for name in ["varchar(", "char("] {
        while let Some(start) = out.find(name) {
            let Some(end) = out[start..].find(')') else { break };
            out.replace_range(start + name.len() - 1..=start + end, "");
        }
    }
    out
}

fn same(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Number(a), Value::Number(b)) => {
            if a == b {
                return true;
            }
            let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) else { return false };
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) || (a - b).abs() < 1e-300
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, value)| {
                    let other = b.get(key).or_else(|| {
                        let number: f64 = key.parse().ok()?;
                        b.iter()
                            .find(|(key, _)| key.parse::<f64>().is_ok_and(|k| (k - number).abs() <= 1e-9 * k.abs()))
                            .map(|(_, v)| v)
                    });
                    other.is_some_and(|other| same(value, other))
                })
        }
        (a, b) => a == b,
    }
}

fn differs(case: &Case, found: &Result<Answer, String>) -> Option<String> {
    let found = match (case.answer.strip_prefix("ERROR:"), found) {
        (Some(code), Err(error)) => {
            let ours = error.split(':').next().unwrap_or("");
            return (ours != code).then(|| format!("expected {code}, found {error}"));
        }
        (Some(code), Ok(answer)) => return Some(format!("expected {code}, found rows {:?}", answer.rows)),
        (None, Err(error)) => return Some(format!("expected rows {}, found error {error}", case.answer)),
        (None, Ok(answer)) => answer,
    };
    let expected: Value = serde_json::from_str(&case.answer).ok()?;
    let types: Vec<String> = expected["t"].as_array()?.iter().map(|t| family(t.as_str().unwrap_or(""))).collect();
    let ours: Vec<String> = found.types.iter().map(|t| family(t)).collect();
    if types != ours {
        return Some(format!(
            "expected types {types:?}, found {ours:?}; expected {}, found {:?}",
            case.answer, found.rows
        ));
    }
    if let Some(names) = expected["n"].as_array() {
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        if names != found.names {
            return Some(format!("expected names {names:?}, found {:?}", found.names));
        }
    }
    let rows: Vec<Value> = expected["r"].as_array()?.clone();
    let ours: Vec<Value> = found.rows.iter().map(|row| Value::Array(row.clone())).collect();
    let equal = if expected["o"] == 1 {
        rows.len() == ours.len() && rows.iter().zip(&ours).all(|(a, b)| same(a, b))
    } else {
        matches_any_order(&rows, &ours)
    };
    (!equal).then(|| format!("expected {}, found {}", Value::Array(rows), Value::Array(ours)))
}

fn matches_any_order(expected: &[Value], found: &[Value]) -> bool {
    let mut left: Vec<&Value> = found.iter().collect();
    expected.len() == found.len()
        && expected.iter().all(|row| match left.iter().position(|other| same(row, other)) {
            Some(index) => {
                left.swap_remove(index);
                true
            }
            None => false,
        })
}

/// The statements of a file that are known to differ; `true`: always, and not by chance.
fn known(name: &str) -> anyhow::Result<BTreeMap<String, bool>> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("trino/differs.tsv");
    let mut known = BTreeMap::new();
    for line in std::fs::read_to_string(file)?.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let [file, statement, reason] = line.split('\t').collect::<Vec<_>>()[..] else {
            anyhow::bail!("differs.tsv: not `file<TAB>statement<TAB>reason`: {line}");
        };
        anyhow::ensure!(!reason.trim().is_empty(), "differs.tsv: without a reason: {line}");
        if file == name {
            known.insert(serde_json::from_str(statement)?, !reason.starts_with("by chance: "));
        }
    }
    Ok(known)
}

/// Fails for what differs and is not known to, and for what is known to and does not.
fn compare(name: &str, differing: &BTreeSet<String>, seen: &BTreeSet<String>) -> anyhow::Result<()> {
    let known = known(name)?;
    let broken: Vec<&String> = differing.iter().filter(|statement| !known.contains_key(*statement)).collect();
    anyhow::ensure!(broken.is_empty(), "{name}: differ from Trino and are not in differs.tsv: {broken:#?}");
    let always = known.iter().filter(|(_, always)| **always).map(|(statement, _)| statement);
    let mended: Vec<&String> = always.filter(|statement| !differing.contains(*statement)).collect();
    anyhow::ensure!(mended.is_empty(), "{name}: no longer differ, so take them out of differs.tsv: {mended:#?}");
    let strange: Vec<&String> = known.keys().filter(|statement| !seen.contains(*statement)).collect();
    anyhow::ensure!(strange.is_empty(), "{name}: has none of these of differs.tsv: {strange:#?}");
    Ok(())
}

/// Runs the statements of a file, and holds what differs against `differs.tsv`.
async fn check(name: &str, text: &str) -> anyhow::Result<()> {
    let (differing, seen) = run(name, text).await?;
    if std::env::var("TRINO_CASES").is_err() { compare(name, &differing, &seen) } else { Ok(()) }
}

/// Runs statements; gives those that differ, and all.
async fn run(name: &str, text: &str) -> anyhow::Result<(BTreeSet<String>, BTreeSet<String>)> {
    let only = std::env::var("TRINO_CASES").ok();
    let folder = tempfile::tempdir()?;
    let config = SessionConfig { state: folder.path().display().to_string(), ..SessionConfig::default() };
    let session = Arc::new(Session::open(config).await?);
    let mut shares: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let (mut differing, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut report = String::new();
    for case in cases(text) {
        if only.as_ref().is_some_and(|only| !case.statement.contains(only.as_str())) {
            continue;
        }
        let running = std::panic::AssertUnwindSafe(answer(&session, &case.statement)).catch_unwind();
        let found = running.await.unwrap_or_else(|_| Err("PANIC: the statement panicked".into()));
        let share = shares.entry(case.family.clone()).or_default();
        share.1 += 1;
        seen.insert(case.statement.clone());
        match differs(&case, &found) {
            None => share.0 += 1,
            Some(difference) => {
                let _ = writeln!(report, "{}\t{}\t{difference}", case.family, case.statement);
                differing.insert(case.statement.clone());
            }
        }
    }
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("trino-{name}.txt"));
    std::fs::write(&file, &report)?;
    let (right, all) = shares.values().fold((0, 0), |(right, all), share| (right + share.0, all + share.1));
    for (family, (right, all)) in &shares {
        println!("{family:16} {right:5} of {all:5}");
    }
    println!("{name}: {right} of {all} right; what differs: {}", file.display());
    if only.is_some() {
        println!("{report}");
    }
    Ok((differing, seen))
}

#[tokio::test]
async fn sample() -> anyhow::Result<()> {
    check("sample", include_str!("../trino/sample.tsv")).await
}

#[tokio::test]
async fn recorded() -> anyhow::Result<()> {
    match std::env::var("TRINO_FILE").ok().map(std::fs::read_to_string).transpose()? {
        Some(given) => run("given", &given).await.map(|_| ()),
        None => check("recorded", include_str!("../trino/recorded.tsv")).await,
    }
}

#[tokio::test]
async fn match_recognize() -> anyhow::Result<()> {
    check("match_recognize", include_str!("../trino/match_recognize.tsv")).await
}

#[tokio::test]
async fn syntax() -> anyhow::Result<()> {
    check("syntax", include_str!("../trino/syntax.tsv")).await
}

#[tokio::test]
async fn written() -> anyhow::Result<()> {
    check("written", include_str!("../trino/written.tsv")).await
}
