"""Runs random queries of streams (jobs.py) as batch queries and as jobs, whose rows must be the same.

    random_jobs.py HEADWATER [--seed N] [--first N] [--sets N] [--count N] [--only WAY] [--query N] [--keep FOLDER] [--show]

Each set has tables and queries of its own, which are one script: it runs as a batch, as a job from end to end, as one that is
stopped, killed and restored at other parallelisms while files come, and without memory. Where a job fails, each of its queries
runs alone. `--first 7 --sets 1` repeats a set, `--query 3` one query of it; `--keep` leaves its scripts and tables in a folder.
"""

import argparse
import collections
import contextlib
import decimal
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

from jobs import CHANGING, CLOSE, CLOSING, DELAY, EVENTS, LOOKED_UP, Generator, changes, events, looked_up, stamp

# What a job may refuse: a part of its message.
REFUSED = ["cannot run continuously", "updates rows it has already emitted", "rows that are updated later", "not the event time", "has no watermark"]
# Kinds of queries whose rows are only added.
APPENDING = ("window", "rows", "top of windows", "interval join", "lookup")
# What looks a subquery up, which cannot be divided.
NEED_MEMORY = ["lookup, in", "lookup, exists", "lookup, not exists"]
WAYS = ["straight", "restored", "spilled"]


def columns(of):
    return ", ".join(f"{name} {kind}" for name, kind in of)


def insert(table, of, rows):
    """The statement that puts rows into a table."""
    quoted = lambda value: "'" + str(value).replace("'", "''") + "'"
    value = lambda row, name, kind: "NULL" if row[name] is None else f"CAST({quoted(row[name])} AS {kind})"
    return f"INSERT INTO {table} VALUES " + ", ".join(f"({', '.join(value(row, *column) for column in of)})" for row in rows)


class Tables:
    """The tables of a set: folders of JSON files and a kept log of changes."""

    def __init__(self, seed, folder):
        self.pick, self.folder = random.Random(seed), folder
        self.rows = {"a": events(self.pick, 0), "b": events(self.pick, 1000)}
        self.looked_up = dict(zip("ce", looked_up(self.pick)))
        self.changes = changes(self.pick)
        # Sometimes events are not in files but in a log, and the closing one in each of its shards.
        self.logged, self.shards = self.pick.choice(["", "b"]), self.pick.choice([1, 2, 3])
        for name, rows in self.looked_up.items():
            self.write(os.path.join(folder, name, "all.json"), rows)

    def write(self, path, rows):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
        os.utime(path, (time.time() - 60,) * 2)

    def put(self, way, part, parts):
        """Puts a part of the events into a way's tables, the closing one with the last part; statements that put the rest."""
        made = []
        for table, (rows, closing) in self.rows.items():
            now = rows[len(rows) * part // parts:len(rows) * (part + 1) // parts]
            if table == self.logged:
                made.append(self.events(way, table, False))
                # The shards take turns, a statement each.
                made += [insert(table, EVENTS, now[at:at + 7]) for at in range(0, len(now), 7)]
                made += [insert(table, EVENTS, [closing])] * (self.shards if part + 1 == parts else 0)
                continue
            now = now + ([closing] if part + 1 == parts else [])
            os.makedirs(os.path.join(self.folder, way, table), exist_ok=True)
            files = self.pick.choice([1, 2, 5])
            for n in range(files):
                of = now[len(now) * n // files:len(now) * (n + 1) // files]
                if of:
                    self.write(os.path.join(self.folder, way, table, f"{part}-{n}.json"), of)
        return made + self.put_changes(way, part, parts)

    def events(self, way, table, watched):
        """The statement that declares a table of events."""
        made = f"CREATE TABLE {table} ({columns(EVENTS)}, WATERMARK FOR ts AS ts - INTERVAL '{DELAY}' SECOND)\nWITH ("
        if table == self.logged:
            return made + f"{self.log(way, table)}, 'shards' = '{self.shards}')"
        return made + f"'connector' = 'filesystem', 'path' = '{self.folder}/{way}/{table}', 'format' = 'json'" + (", 'source.monitor-interval' = '100 ms')" if watched else ")")

    def put_changes(self, way, part, parts):
        """The statements that put a part of the changes into a way's logs: as Debezium tells them, and new rows alone."""
        told = self.changes[len(self.changes) * part // parts:len(self.changes) * (part + 1) // parts]
        made = [f"CREATE TABLE raw_h (payload VARCHAR) WITH ({self.log(way, 'h')}, 'format' = 'raw')", self.upserts(way)]
        rows = [change["after"] for change in told if change["after"]]
        if told:
            made.append(insert("raw_h", [("payload", "varchar")], [{"payload": json.dumps(change, ensure_ascii=False)} for change in told]))
        if rows:
            made.append(insert("u", CHANGING, rows))
        return made

    def upserts(self, way):
        return f"CREATE TABLE u ({columns(CHANGING)}, PRIMARY KEY (id) NOT ENFORCED) WITH ({self.log(way, 'u')})"

    def log(self, way, name):
        return f"'connector' = 'memory', 'name' = '{name}', 'log.path' = '{self.folder}/{way}/logs'"

    def declared(self, way, watched):
        """The statements that declare the tables."""
        made = [self.events(way, table, watched) for table in self.rows]
        for table in self.looked_up:
            made.append(f"CREATE TABLE {table} ({columns(LOOKED_UP)}) WITH ('connector' = 'filesystem', 'path' = '{self.folder}/{table}', 'format' = 'json')")
        made.append(f"CREATE TABLE h ({columns(CHANGING)}, PRIMARY KEY (id) NOT ENFORCED) WITH ({self.log(way, 'h')}, 'format' = 'debezium-json')")
        return made + [self.upserts(way)]


def plain(value):
    """A value so that two spellings of it are alike."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, decimal.Decimal)):
        return str(int(value)) if value == int(value) else f"{float(value):.9g}"
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?", value):
        return value[:23].replace("T", " ").ljust(19).rstrip("0").rstrip(".") if "." in value else value[:19].replace("T", " ")
    return value


class Headwater:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder

    def command(self, state, *arguments):
        return [self.binary, "--state", os.path.join(self.folder, state), "--format", "ndjson", *arguments]

    def script(self, statements, state="reading"):
        """Runs statements; what it said."""
        text = ";\n".join(statements) + ";\n"
        return subprocess.run(self.command(state, "-f", "-"), input=text, capture_output=True, text=True, timeout=300, cwd=self.folder)

    def answers(self, before, statements):
        """What each statement gives after those before: rows, or why not."""
        given, waiting = {}, list(range(len(statements)))
        while waiting:
            text = [part for at in waiting for part in (f"SELECT {at} AS mark__", statements[at])]
            done = self.script(before + text + ["SELECT -1 AS mark__"])
            found, at = collections.defaultdict(list), None
            for line in done.stdout.splitlines():
                row = json.loads(line, parse_float=decimal.Decimal)
                at = row.get("mark__", at)
                if "mark__" not in row:
                    found[at].append({key: plain(value) for key, value in row.items()})
            said = "; ".join(line for line in done.stderr.splitlines() if not re.match(r"\d+ rows? |note: ", line))[:700]
            if done.returncode == 0:
                given.update({at: found[at] for at in waiting})
                break
            if at is None:  # The script was not read, or what stands before failed.
                place = re.match(r"error\S* (\d+):", said)
                line = int(place.group(1)) - 1 - sum(text.count("\n") + 1 for text in before) if place else 0
                at = waiting[max(line // 2, 0)]
            else:
                given.update({done: found[done] for done in waiting[:waiting.index(at)]})
            given[at] = said or f"exit {done.returncode}"
            waiting = [left for left in waiting if left not in given]
        return [given[at] for at in range(len(statements))]


class Set:
    """One set of tables and queries, and what each way makes of them."""

    def __init__(self, options, number):
        self.options, self.number = options, number
        self.seed = options.seed * 1_000_003 + number
        self.counts, self.findings = collections.Counter(), []

    def run(self, folder):
        self.tables = Tables(self.seed, folder)
        self.headwater = Headwater(self.options.headwater, folder)
        self.pick = random.Random(self.seed)
        queries = [Generator(self.seed * 1009 + n).query() for n in range(self.options.count)]
        prepared = self.headwater.script(self.tables.put("batch", 0, 1))
        if prepared.returncode:
            sys.exit(prepared.stderr)
        before = self.tables.declared("batch", False)
        chosen = [n for n in range(len(queries)) if self.options.query in (None, n)]
        self.queries = {n: queries[n] for n in chosen}
        answers = dict(zip(chosen, self.headwater.answers(before, [query.text for query in self.queries.values()])))
        for n in chosen:
            if isinstance(answers[n], str):
                self.report("batch", n, "fails in batch", answers[n])
        chosen = [n for n in chosen if not isinstance(answers[n], str)]
        prepared = [f"PREPARE q{n} FROM {self.queries[n].text}" for n in chosen]
        types = self.headwater.answers(before + prepared, [f"DESCRIBE OUTPUT q{n}" for n in chosen])
        self.types = {n: [(row["Column Name"], row["Type"]) for row in kinds] for n, kinds in zip(chosen, types)}
        self.expected = {n: self.folded_rows(n, answers[n]) for n in chosen}
        chosen = [n for n in chosen if self.is_taken(n)]
        for way in WAYS if self.options.only is None else [self.options.only]:
            self.check(way, chosen)

    def is_taken(self, n):
        """Whether a job takes the query; a refusal without a reason is a finding."""
        path = self.write_job("planned", [n], f"planned-{n}")
        done = subprocess.run(self.headwater.command("planned", "explain", path), capture_output=True, text=True, timeout=300)
        if done.returncode == 0:
            return True
        if "panicked" in done.stderr or not any(part in done.stderr for part in REFUSED):
            self.report("explain", n, "fails in planning", done.stderr)
        else:
            self.counts["refused"] += 1
            self.counts[f"refused: {self.queries[n].kind}"] += 1
            if self.options.show:
                print(f"refused {self.number}.{n}: {self.queries[n].text}\n   {done.stderr.strip()}")
        return False

    def sink(self, way, n, name):
        """A table for a query's rows: by key, in files, or for the changes that any query gives."""
        query, kinds = self.queries[n], columns(self.types[n])
        if query.key:
            return f"CREATE TABLE {name} ({kinds}, PRIMARY KEY ({', '.join(query.key)}) NOT ENFORCED)\nWITH ({self.tables.log(way, f'out_{n}')})"
        if self.is_in_files(n):
            path = os.path.join(self.tables.folder, way, f"out_{n}")
            return f"CREATE TABLE {name} ({kinds})\nWITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = '{'parquet' if n % 4 else 'json'}')"
        return f"CREATE TABLE {name} ({kinds})\nWITH ({self.tables.log(way, f'out_{n}')}, 'format' = 'debezium-json')"

    def is_in_files(self, n):
        return self.queries[n].kind.startswith(APPENDING) and n % 2 == 0

    def write_job(self, way, chosen, name, settings=()):
        path = os.path.join(self.tables.folder, f"{name}.sql")
        parts = ["SET 'checkpoint.interval' = '50 ms'", *settings, *self.tables.declared(way, True)]
        parts += [part for n in chosen for part in (self.sink(way, n, f"out_{n}"), f"INSERT INTO out_{n}\n{self.queries[n].text}")]
        with open(path, "w") as out:
            out.write(";\n".join(parts) + ";\n")
        return path

    def check(self, way, chosen, alone=False):
        """Runs the queries as one job, and if that fails each alone."""
        if way == "spilled":
            chosen = [n for n in chosen if self.queries[n].kind not in NEED_MEMORY]
        if not chosen:
            return
        name = f"{way}-{chosen[0]}" if alone else way
        failed = getattr(self, way)(name, chosen)
        if failed and len(chosen) > 1:
            before = len(self.findings)
            for n in chosen:
                self.check(way, [n], True)
            if len(self.findings) == before:
                self.report(way, chosen[0], "fails only among others", failed)
            return
        if failed:
            self.report(way, chosen[0], "fails", failed)
            return
        self.check_ledger(name, chosen)
        made, asked = [], []
        for n in chosen:
            is_changes = not self.queries[n].key and not self.is_in_files(n)
            made.append(f"CREATE TABLE r{n} (payload VARCHAR) WITH ({self.tables.log(name, f'out_{n}')}, 'format' = 'raw')" if is_changes else self.sink(name, n, f"r{n}"))
            asked.append(f"SELECT * FROM r{n}")
        for n, told in zip(chosen, self.headwater.answers(made, asked)):
            self.counts[f"compared: {self.queries[n].kind}"] += 1
            self.counts["compared"] += 1
            self.counts["of no row"] += not self.expected[n]
            rows = told if isinstance(told, str) else self.folded(n, told)
            if rows != self.expected[n] and self.is_total_of_nothing(n, rows):
                self.counts["total of no rows"] += 1
            elif rows != self.expected[n]:
                self.report(name, n, "differs", self.difference(rows, self.expected[n]))

    def is_total_of_nothing(self, n, rows):
        """Grouping sets have a row for all rows also where there are none, but not in jobs."""
        return not rows and self.expected[n].total() == 1 and re.search(r"ROLLUP|CUBE", self.queries[n].text)

    def difference(self, rows, expected):
        if isinstance(rows, str):
            return rows
        cut = lambda rows: [f"{count} x {row}" for row, count in list(rows.items())[:6]]
        more = collections.Counter({row: count - expected[row] for row, count in rows.items() if count > expected[row]})
        less = collections.Counter({row: count - rows[row] for row, count in expected.items() if count > rows[row]})
        return f"only in the job: {cut(more)}\n   only in batch:   {cut(less)}\n   less than none:  {cut({row: count for row, count in rows.items() if count < 0})}"

    def folded(self, n, told):
        """The rows that changes leave."""
        left = collections.Counter()
        if self.queries[n].key or self.is_in_files(n):
            return self.folded_rows(n, told)
        for payload in told:
            change = json.loads(payload["payload"], parse_float=decimal.Decimal)
            for side, count in (("before", -1), ("after", 1)):
                if change.get(side) is not None:
                    for row in self.folded_rows(n, [{key: plain(value) for key, value in change[side].items()}]):
                        left[row] += count
        return collections.Counter({row: count for row, count in left.items() if count})

    def folded_rows(self, n, rows):
        """Rows as texts, counted, without those of windows that are open."""
        names = [name for name, _ in self.types[n]]
        is_open = lambda value: value == str(CLOSING) or isinstance(value, str) and value[:10] == stamp(0)[:10] and value >= stamp(CLOSE - 1800)
        kept = [row for row in rows if not any(is_open(row.get(name)) for name in self.queries[n].open)]
        return collections.Counter(json.dumps([row.get(name) for name in names], ensure_ascii=False) for row in kept)

    def check_ledger(self, name, chosen):
        done = self.headwater.script(["SELECT * FROM headwater.ledger"], f"state-{name}")
        for line in done.stdout.splitlines():
            row = json.loads(line)
            self.counts["lines of ledgers"] += 1
            whole = row["rejected"] + row["filtered"] + row["late"] + row["held"] + row["released"]
            if not row["balanced"] or row["read"] != whole or row["late"] or row["rejected"]:
                self.report(name, int(row["insert_name"].split("_")[-1].split("#")[0]), "breaks the ledger", line)

    # The ways. Each returns why it failed, if it did.

    def once(self, name, path, parallelism):
        command = self.headwater.command(f"state-{name}", "run", path, "--once", "--job", "job", "--parallelism", str(parallelism))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            return "it does not end"
        return done.stderr if done.returncode or "panicked" in done.stderr else None

    def put(self, name, part, parts):
        done = self.headwater.script(self.tables.put(name, part, parts))
        return done.stderr if done.returncode else None

    def straight(self, name, chosen):
        path = self.write_job(name, chosen, name)
        return self.put(name, 0, 1) or self.once(name, path, 1)

    def spilled(self, name, chosen):
        path = self.write_job(name, chosen, name, ["SET 'memory.limit' = '1 B'"])
        return self.put(name, 0, 2) or self.once(name, path, 2) or self.put(name, 1, 2) or self.once(name, path, 3)

    def restored(self, name, chosen):
        """Caught up, stopped, killed twice while it runs over more files, then caught up at yet another parallelism."""
        path = self.write_job(name, chosen, name)
        failed = self.put(name, 0, 3) or self.once(name, path, 3)
        for part, parallelism in ((1, 2), (2, 4)):
            failed = failed or self.put(name, part, 3) or self.killed(name, path, parallelism)
        return failed or self.once(name, path, 1)

    def killed(self, name, path, parallelism):
        command = self.headwater.command(f"state-{name}", "run", path, "--job", "job", "--parallelism", str(parallelism))
        with tempfile.TemporaryFile("w+") as said:
            running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(self.pick.choice([0.2, 0.4, 0.8]))
                said.seek(0)
                return f"it ended by itself: {said.read()}"
            running.kill()
            running.wait()
            said.seek(0)
            text = said.read()
            return text if "panicked" in text else None

    def report(self, way, n, what, detail):
        self.counts[what] += 1
        self.findings.append(n)
        print(f"{what} ({way}) {self.number}.{n} [{self.queries[n].kind}]: {self.queries[n].text}\n   {str(detail).strip()[:1500]}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("headwater")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--only", choices=WAYS)
    parser.add_argument("--query", type=int)
    parser.add_argument("--keep")
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    options.headwater = os.path.abspath(options.headwater)
    counts = collections.Counter()
    for number in range(options.first, options.first + options.sets):
        one = Set(options, number)
        with tempfile.TemporaryDirectory() as folder:
            if options.keep:
                folder = os.path.abspath(options.keep)
                shutil.rmtree(folder, ignore_errors=True)
                os.makedirs(folder)
            one.run(folder)
        counts.update(one.counts)
    for what, count in sorted(counts.items()):
        print(f"{count:6} {what}")
    failures = ("differs", "fails", "fails in batch", "fails in planning", "fails only among others", "breaks the ledger")
    sys.exit(1 if any(counts[what] for what in failures) else 0)


if __name__ == "__main__":
    main()
