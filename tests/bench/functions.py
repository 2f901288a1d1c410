#!/usr/bin/env python3
"""The thirty most used functions beside DuckDB, each over the same rows of one Parquet file, by CPU time.

    cargo build --release
    tests/bench/functions.py [--rows 10000000] [--runs 3] [--headwater target/release/headwater] [--work DIR] [--only NAME]

A measurement is a whole process on all cores; its CPU time is user plus system time. Of each function the time of reading
the same columns without it is taken off, for both engines, so that the ratio is that of the function. Both print the same
digest of their results (a count or a sum), which is compared where the functions mean the same. DuckDB 2.0.0 comes from the
virtual environment that `lake.py` makes in its work folder.
"""
import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import sys

# name, Headwater, DuckDB: expressions over the columns i, d, m, s, t, ts, dt, j; their digest is compared.
FUNCTIONS = [
    ("json_extract_scalar", "count(json_extract_scalar(j, '$.user.id'))", "count(json_extract_string(j, '$.user.id'))", "j"),
    ("json_extract", "count(json_extract(j, '$.user'))", "count(json_extract(j, '$.user'))", "j"),
    ("date_trunc", "count(DISTINCT date_trunc('hour', ts))", "count(DISTINCT date_trunc('hour', ts))", "ts"),
    ("date_format", "sum(length(date_format(ts, '%Y-%m-%d %H:%i')))", "sum(length(strftime(ts, '%Y-%m-%d %H:%M')))", "ts"),
    ("date_parse", "count(date_parse(t, '%Y-%m-%d %H:%i:%s'))", "count(strptime(t, '%Y-%m-%d %H:%M:%S'))", "t"),
    ("date_diff", "sum(date_diff('day', ts, TIMESTAMP '2024-06-01 00:00:00'))", "sum(datesub('day', ts, TIMESTAMP '2024-06-01 00:00:00'))", "ts"),
    ("date_add", "max(date_add('day', 3, ts))", "max(ts + INTERVAL 3 DAY)", "ts"),
    ("year", "sum(year(ts))", "sum(year(ts))", "ts"),
    ("from_unixtime", "max(from_unixtime(i))", "CAST(max(to_timestamp(i)) AS VARCHAR)", "i"),
    ("to_unixtime", "sum(to_unixtime(ts))", "sum(epoch(ts))", "ts"),
    ("cast to date", "count(DISTINCT CAST(ts AS date))", "count(DISTINCT CAST(ts AS date))", "ts"),
    ("cast to varchar", "sum(length(CAST(i AS varchar)))", "sum(length(CAST(i AS varchar)))", "i"),
    ("cast to bigint", "sum(CAST(n AS bigint))", "sum(CAST(n AS bigint))", "n"),
    ("coalesce", "sum(coalesce(o, i))", "sum(coalesce(o, i))", "o, i"),
    ("if", "sum(if(i % 3 = 0, i, 0))", "sum(if(i % 3 = 0, i, 0))", "i"),
    ("round", "sum(round(d, 2))", "sum(round(d, 2))", "d"),
    ("abs", "sum(abs(d))", "sum(abs(d))", "d"),
    ("lower", "sum(length(lower(s)))", "sum(length(lower(s)))", "s"),
    ("substr", "sum(length(substr(s, 3, 5)))", "sum(length(substr(s, 3, 5)))", "s"),
    ("replace", "sum(length(replace(s, 'a', 'bb')))", "sum(length(replace(s, 'a', 'bb')))", "s"),
    ("trim", "sum(length(trim(s)))", "sum(length(trim(s)))", "s"),
    ("concat", "sum(length(concat(s, '-', n)))", "sum(length(concat(s, '-', n)))", "s, n"),
    ("strpos", "sum(strpos(s, 'ra'))", "sum(strpos(s, 'ra'))", "s"),
    ("split_part", "sum(length(split_part(s, ' ', 2)))", "sum(length(split_part(s, ' ', 2)))", "s"),
    ("like", "count_if(s LIKE '%tra%')", "count_if(s LIKE '%tra%')", "s"),
    ("regexp_like", "count_if(regexp_like(s, '[0-9]{3}$'))", "count_if(regexp_matches(s, '[0-9]{3}$'))", "s"),
    ("regexp_extract", "sum(length(regexp_extract(s, '([a-z]+) ([0-9]+)', 2)))", "sum(length(regexp_extract(s, '([a-z]+) ([0-9]+)', 2)))", "s"),
    ("regexp_replace", "sum(length(regexp_replace(s, '[aeiou]', '')))", "sum(length(regexp_replace(s, '[aeiou]', '', 'g')))", "s"),
    ("approx_distinct", "approx_distinct(i)", "approx_count_distinct(i)", "i"),
    ("approx_percentile", "approx_percentile(d, 0.95)", "approx_quantile(d, 0.95)", "d"),
    ("max_by", "max_by(s, d)", "max_by(s, d)", "s, d"),
    ("array_agg, cardinality", "cardinality(array_agg(i))", "len(list(i))", "i"),
]
APPROXIMATE = {"approx_distinct", "approx_percentile"}

DUCKDB = """
import duckdb, sys
connection = duckdb.connect()
connection.execute("SET enable_progress_bar = false")
connection.execute("SET TimeZone = 'UTC'")
print(*connection.execute(sys.argv[1]).fetchone(), sep=",")
"""
MAKE = """
import duckdb, sys
connection = duckdb.connect()
words = "['travel','orange','extra','lemon','stone','Granada','ultra','Paris']"
connection.execute(f'''COPY (
    SELECT i, CASE WHEN i % 5 = 0 THEN NULL ELSE i * 2 END AS o, (i * 7919 % 1000003) / 97.0 AS d,
           CAST(i % 100000 AS VARCHAR) AS n,
           '  ' || {words}[1 + i % 8] || ' ' || {words}[1 + i * 31 % 8] || ' ' || CAST(i % 5000 AS VARCHAR) AS s,
           strftime(TIMESTAMP '2024-01-01' + INTERVAL (i % 31536000) SECOND, '%Y-%m-%d %H:%M:%S') AS t,
           CAST(TIMESTAMP '2024-01-01' + INTERVAL (i % 31536000) SECOND AS TIMESTAMP_MS) AS ts,
           '{{"type":"' || {words}[1 + i % 8] || '","user":{{"id":"u' || CAST(i % 100000 AS VARCHAR) || '","age":' ||
           CAST(i % 90 AS VARCHAR) || '}},"tags":["a","b"]}}' AS j
    FROM range(1718000000, 1718000000 + {sys.argv[2]}) r(i)) TO '{sys.argv[1]}' (FORMAT PARQUET, COMPRESSION SNAPPY)''')
"""


def cpu(command):
    """A process's CPU seconds and what it printed last."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{command[-1][:300]}\n{done.stderr}")
    lines = done.stdout.strip().splitlines()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, lines[-1] if lines else ""


def median(command, runs):
    taken = [cpu(command) for _ in range(runs)]
    return statistics.median(seconds for seconds, _ in taken), taken[0][1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--headwater", default="target/release/headwater")
    parser.add_argument("--work", default=os.path.expanduser("~/.cache/headwater/bench"))
    parser.add_argument("--only")
    options = parser.parse_args()
    python = pathlib.Path(options.work) / "peers/bin/python"
    file = pathlib.Path(options.work) / f"functions/rows-{options.rows}.parquet"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        cpu([python, "-c", MAKE, str(file), str(options.rows)])

    def ours(select):
        return [options.headwater, "--format", "csv", "-c", f"SELECT {select} FROM read_parquet('{file}')"]

    def theirs(select):
        return [str(python), "-c", DUCKDB, f"SELECT {select} FROM read_parquet('{file}')"]

    bases = {}
    print("| function | Headwater CPU s | DuckDB CPU s | ratio | without reading |\n|---|---|---|---|---|")
    for name, here, there, columns in FUNCTIONS:
        if options.only and options.only not in name:
            continue
        if columns not in bases:
            read = ", ".join(f"count({column})" for column in columns.split(", "))
            bases[columns] = median(ours(read), options.runs)[0], median(theirs(read), options.runs)[0]
        (mine, answer), (peer, other) = median(ours(here), options.runs), median(theirs(there), options.runs)
        own = [max(value - base, 0.01) for value, base in zip((mine, peer), bases[columns])]
        print(f"| {name} | {mine:.2f} | {peer:.2f} | {mine / peer:.2f} | {own[0] / own[1]:.2f} |", flush=True)
        plain = lambda text: text.replace('"', "").split(".")[0].split("+")[0]
        if name not in APPROXIMATE and plain(answer)[:12] != plain(other)[:12]:
            print(f"{name}: {answer} here, {other} there", file=sys.stderr)


if __name__ == "__main__":
    main()
