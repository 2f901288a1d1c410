"""Asks Headwater and DuckDB random relational queries (relations.py), whose rows must be the same.

    random_relations.py HEADWATER [--seed N] [--count N] [--first N] [--show]

Statement n of a seed is the same whatever the count, so `--first N --count 1 --show` repeats one.
"""

import argparse
import datetime
import decimal
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter

import duckdb

from relations import COLUMNS, Generator, spelled

# What Headwater may refuse: a part of its message, and why.
REFUSED = {"LATERAL over this join is not supported": "what refers to the query around within RIGHT and FULL JOIN"}

VIEWS = ["CREATE VIEW v AS SELECT id, i, b, x, s, f, d, ts, m FROM p UNION ALL SELECT id, i, 1, x, 'c', f, d, ts, m FROM j WHERE i > 0",
         "CREATE VIEW w AS SELECT a.id, a.i, c.b, c.x, a.s, c.f, a.d, a.ts, c.m FROM p a LEFT JOIN h c ON a.i = c.i AND c.f"]


def rows(pick, count):
    pool = {"integer": [0, 1, 1, 2, 2, 3, None], "bigint": [1, 2, 2, 3, 10000000000, None], "double": [0.5, 1.5, -2.0, 3.0, None],
            "varchar": ["a", "b", "b", "ab", "12", "x%y", None], "boolean": [True, False, None], "date": ["2024-01-01", "2024-01-02", "2024-02-29", None],
            "timestamp": ["2024-01-01 00:00:00", "2024-01-01 12:30:00", "2024-03-01 00:00:01", None], "decimal(8,2)": ["1.50", "2.25", "-3.00", None]}
    return [[n + 1] + [pick.choice(pool[kind]) for _, kind in COLUMNS[1:]] for n in range(count)]


def tables(folder, seed):
    """Makes the tables in DuckDB and as files; Headwater's statements for them."""
    pick, duck, made = random.Random(seed), duckdb.connect(), []
    duck.execute("SET memory_limit = '1GB'; SET threads = 1; SET max_temp_directory_size = '0GB'")
    duck.execute("SET default_null_order = 'nulls_last'; SET order_by_non_integer_literal = true")
    declared = ", ".join(f"{name} {kind}" for name, kind in COLUMNS)
    for table, count in [("p", 20), ("q", 8), ("j", 12), ("h", 25), ("z", 0)]:
        duck.execute(f"CREATE TABLE {table} ({declared})")
        for row in rows(pick, count):
            duck.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        place = os.path.join(folder, table)
        os.mkdir(place)
        if table in "pqz":
            duck.execute(f"COPY {table} TO '{place}/a.parquet' (FORMAT parquet)")
            made.append(f"CREATE EXTERNAL TABLE {table} ({declared}) STORED AS PARQUET LOCATION '{place}/'".replace("varchar", "string"))
            continue
        split = ["i", "d"] if table == "h" else []
        for row in duck.execute(f"SELECT * FROM {table}").fetchall():
            row = dict(zip((name for name, _ in COLUMNS), row))
            inner = os.path.join(place, *(f"{key}={'__HIVE_DEFAULT_PARTITION__' if row[key] is None else row[key]}" for key in split))
            os.makedirs(inner, exist_ok=True)
            with open(os.path.join(inner, "a.json"), "a") as out:
                kept = {k: float(v) if isinstance(v, decimal.Decimal) else v if isinstance(v, (int, float, str, type(None))) else str(v)
                        for k, v in row.items() if k not in split}
                out.write(json.dumps(kept) + "\n")
        own = ", ".join(f"{name} {kind}" for name, kind in COLUMNS if name not in split).replace("varchar", "string")
        by = f" PARTITIONED BY ({', '.join(f'{name} {dict(COLUMNS)[name]}' for name in split)})" if split else ""
        made.append(f"CREATE EXTERNAL TABLE {table} ({own}){by} STORED AS JSON LOCATION '{place}/'")
        made += [f"MSCK REPAIR TABLE {table}"] if split else []
    for view in VIEWS:
        duck.execute(view)
    return duck, made + VIEWS


def plain(value):
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float, decimal.Decimal)):
        return round(float(value), 6) + 0.0
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str):
        if re.fullmatch(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.0+)?", value):
            return value[:19].replace("T", " ")
        return value
    return value


class Headwater:
    """Answers of the binary, many statements in one process, until one fails."""

    def __init__(self, binary, folder):
        self.command = [binary, "--state", os.path.join(folder, "state"), "--format", "ndjson", "-f", "-"]

    def process(self, statements):
        text = "".join(f"SELECT {n} AS mark__;\n{statement};\n" for n, statement in enumerate(statements)) + f"SELECT {len(statements)} AS mark__;\n"
        return subprocess.run(self.command, input=text, capture_output=True, text=True, timeout=600)

    def answers(self, statements):
        """What each gives: its rows, or why not."""
        given, waiting = {}, list(range(len(statements)))
        while waiting:
            done = self.process([statements[at] for at in waiting])
            found = []
            for line in done.stdout.splitlines():
                row = json.loads(line)
                if "mark__" in row:
                    found.append([])
                else:
                    found[-1].append([plain(value) for value in row.values()])
            given.update(zip(waiting, found[:-1]))
            if done.returncode == 0:
                break
            failed = len(found) - 1
            lines = [line for line in done.stderr.splitlines() if line]
            said = [line for line in lines if not re.match(r"\d+ rows? in ", line)]
            error = "; ".join(said)[:600]
            if not found:  # The script was not read: a place in it tells the statement.
                place = re.match(r"error\S* (\d+):", error)
                failed = int(place.group(1)) // 2 - 1 if place else 0
                given[waiting.pop(failed)] = error
                continue
            given[waiting[failed]] = error or f"exit {done.returncode}"
            waiting = waiting[failed + 1:]
        return [given[at] for at in range(len(statements))]


def duck_answer(duck, text):
    """Rows, or why not; DuckDB gives up after two seconds."""
    watch = threading.Timer(2, duck.interrupt)
    watch.start()
    try:
        return [[plain(value) for value in row] for row in duck.execute(text).fetchall()]
    except duckdb.Error as error:
        return "duck: " + str(error).replace("\n", " ")[:300]
    finally:
        watch.cancel()


def order_of(row):
    return [(value is None, str(type(value)), value if value is not None else 0) for value in row]


def verdict(ours, theirs, text):
    if isinstance(ours, str):
        return "may be refused" if any(part in ours for part in REFUSED) else "refused"
    if not re.search(r" ORDER BY [^()]*$", text):
        ours, theirs = sorted(ours, key=order_of), sorted(theirs, key=order_of)
    return "equal" if ours == theirs else "different"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("headwater")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.count)
    texts = {n: Generator(options.seed * 1_000_003 + n).statement() for n in numbers}
    with tempfile.TemporaryDirectory() as folder:
        duck, made = tables(folder, options.seed)
        headwater = Headwater(options.headwater, folder)
        set_up = headwater.process(made)
        if set_up.returncode:
            sys.exit(set_up.stderr)
        theirs = {n: duck_answer(duck, spelled(text, 2)) for n, text in texts.items()}
        known = [n for n in numbers if not isinstance(theirs[n], str)]
        ours = dict(zip(known, headwater.answers([spelled(texts[n], 1) for n in known])))
    count = Counter({"DuckDB fails": len(texts) - len(known)})
    for n in known:
        what = verdict(ours[n], theirs[n], texts[n])
        count[what] += 1
        count["equal, of no row"] += what == "equal" and not ours[n]
        if options.show or what in ("different", "refused"):
            print(f"{what} {n}: {spelled(texts[n], 1)}\n   Headwater: {str(ours[n])[:800]}\n   DuckDB:    {str(theirs[n])[:800]}")
    print(dict(count))
    sys.exit(1 if count["different"] or count["refused"] else 0)


if __name__ == "__main__":
    main()
