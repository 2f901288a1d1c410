#!/usr/bin/env python3
"""Headwater beside DuckDB and DataFusion on the same files, in one run.

    cargo build --release
    tests/bench/lake.py [--runs 7] [--events 5000000] [--headwater target/release/headwater] [--work DIR]

Two questions. `june` is the query of queries/telemetry/june.sql over 700,000 telemetry events, delivered once as gzip JSON
and once as Parquet, on all cores. `window` counts and sums 5,000,000 events of 141 bytes in ten-second windows per
kind, from three of their seven fields, as NDJSON, gzip and Parquet, on one core.

`--trino URL` adds a running Trino to the June query. It needs a catalog `lake` of the Hive connector (`connector.name=hive`,
`hive.metastore=file`, `hive.metastore.catalog.dir=local:///metastore`, `hive.non-managed-table-writes-enabled=true`,
`fs.native-local.enabled=true`, `local.location=` the work folder's `bench`). A server has no process of its own per query:
its CPU time is what it reports of the query, start and planning left out, and no memory is said.

Every measurement is a whole process, start to end; the engines take turns, and each figure is the median of the runs.
CPU time is user plus system time of the process, memory its largest resident set. A run whose answer differs from the
other engines' answers ends the comparison: there is nothing to compare. Needs Python 3.9 and a network the first time,
for the peers (pinned below) are installed into a virtual environment in the work folder.
"""

import argparse
import csv
import gzip
import io
import json
import os
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import time
import urllib.request
import venv

PEERS = ["duckdb==2.0.0", "datafusion==55.0.0", "pytz==2026.6"]
KINDS = ["view", "like", "share", "comment", "follow", "report"]
FILES = 8

JUNE = {
    "duckdb": """
        SELECT day, count(*) FROM (
            SELECT DISTINCT date_trunc('day', tstamp) AS day, json_extract_string(payload, '$.session_id') AS session_id
            FROM {table} WHERE name = 'anonymous_visited' AND date_trunc('month', tstamp) = DATE '2023-06-01')
        GROUP BY day ORDER BY 1""",
    # DataFusion has no JSON functions of its own: a regular expression takes the field out.
    "datafusion": """
        SELECT day, count(*) FROM (
            SELECT DISTINCT date_trunc('day', tstamp) AS day,
                   regexp_match(payload, '"session_id": ?"([^"]*)"')[1] AS session_id
            FROM events WHERE name = 'anonymous_visited' AND date_trunc('month', tstamp) = DATE '2023-06-01')
        GROUP BY day ORDER BY 1""",
}
WINDOW = {
    "headwater": """
        SELECT window_start, kind, count(*), sum(amount)
        FROM TABLE(TUMBLE(TABLE {table}, DESCRIPTOR(ts), INTERVAL '10' SECOND))
        GROUP BY window_start, kind ORDER BY 1, 2""",
    "duckdb": """
        SELECT time_bucket(INTERVAL '10 seconds', ts) AS w, kind, count(*), sum(amount)
        FROM {table} GROUP BY w, kind ORDER BY 1, 2""",
    "datafusion": """
        SELECT date_bin(INTERVAL '10 seconds', ts) AS w, kind, count(*), sum(amount)
        FROM events GROUP BY w, kind ORDER BY 1, 2""",
}

DUCKDB = """
import csv, duckdb, sys
connection = duckdb.connect(config={"threads": int(sys.argv[2])})
connection.execute("SET enable_progress_bar = false")
csv.writer(sys.stdout).writerows(connection.execute(sys.argv[1]).fetchall())
"""
DATAFUSION = """
import csv, json, sys
import pyarrow
from datafusion import SessionConfig, SessionContext
statement, threads, table = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
context = SessionContext(SessionConfig().with_target_partitions(threads))
context.sql(table).collect()
rows = context.sql(statement).to_arrow_table().to_pylist()
csv.writer(sys.stdout).writerows(row.values() for row in rows)
"""


def measure(command, core=None, **options):
    """Runs a process and says its answer, wall seconds, CPU seconds and peak memory in MB."""
    def pin():
        if core is not None:
            os.sched_setaffinity(0, {core})
    start = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=pin, **options)
    out, err = communicate(child)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - start
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))[:400]}\nended with {status}:\n{err.decode()}")
    return {
        "rows": answer(out.decode()), "err": err.decode(),
        "wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "mb": usage.ru_maxrss / 1024,
    }


class Trino:
    """A running server, asked over its HTTP protocol."""

    def __init__(self, url):
        self.url = url

    def call(self, url, body=None):
        request = urllib.request.Request(url, data=body, headers={"X-Trino-User": "bench", "X-Trino-Catalog": "lake", "X-Trino-Schema": "bench"})
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    def ask(self, statement):
        start = time.monotonic()
        page = self.call(f"{self.url}/v1/statement", statement.encode())
        rows = list(page.get("data", []))
        while "nextUri" in page:
            page = self.call(page["nextUri"])
            rows += page.get("data", [])
        if "error" in page:
            sys.exit(f"Trino: {page['error']['message']}\n{statement}")
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        return {"rows": answer(text.getvalue()), "err": "", "wall": time.monotonic() - start,
                "cpu": page["stats"]["cpuTimeMillis"] / 1000, "mb": float("nan")}

    def declare(self):
        """The two tables of telemetry events, over the files that Headwater wrote."""
        self.ask("CREATE SCHEMA IF NOT EXISTS lake.bench")
        for table, format_ in (("events_json", "OPENX_JSON"), ("events_parquet", "PARQUET")):
            self.ask(f"DROP TABLE IF EXISTS {table}")
            self.ask(f"CREATE TABLE {table} (tstamp timestamp(3), payload varchar, payload_md5 varchar, name varchar, d varchar) WITH "
                     f"(format = '{format_}', partitioned_by = ARRAY['name', 'd'], "
                     f"external_location = 'local:///telemetry/events_raw/{table.split('_')[1]}')")
            self.ask(f"CALL lake.system.sync_partition_metadata('bench', '{table}', 'FULL')")


def communicate(child):
    """Both pipes to their end, without reaping the process, whose usage is wanted."""
    import threading
    err = io.BytesIO()
    thread = threading.Thread(target=lambda: err.write(child.stderr.read()))
    thread.start()
    out = child.stdout.read()
    thread.join()
    return out, err.getvalue()


def answer(text):
    """The rows in a form that is the same for every engine: times without fraction zeros, numbers rounded."""
    def field(value):
        try:
            return round(float(value), 3)
        except ValueError:
            return value.replace("T", " ").removesuffix(".000").removesuffix(" 00:00:00")
    rows = [[field(value) for value in row] for row in csv.reader(text.splitlines())]
    return [row for row in rows if row and isinstance(row[-1], float)]


def generate_events(folder, count):
    """Events of 141 bytes with the newline, the same for the same count, as NDJSON and as gzip."""
    done = folder / f"{count}.done"
    if done.exists():
        return
    numbers = random.Random(1)
    for part in range(FILES):
        lines = []
        for at in range(part * count // FILES, (part + 1) * count // FILES):
            second, milli = divmod(at * 3600_000 // count, 1000)
            event = (
                f'{{"id":"{at:012d}","ts":"2023-06-01 {second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.{milli:03d}",'
                f'"kind":"{numbers.choice(KINDS)}","amount":{numbers.randrange(10, 100)}.{numbers.randrange(10, 99)},'
                f'"user":"u{numbers.randrange(10**6):06d}","page":"'
            )
            tail = '","ok":true}'
            pad = 140 - len(event) - len(tail)
            lines.append(event + f"/{numbers.randrange(10**9)}".ljust(pad, "x")[:pad] + tail + "\n")
        text = "".join(lines).encode()
        for name, data in (("ndjson", text), ("gzip", gzip.compress(text, 6))):
            path = folder / name / f"part-{part}.{'json' if name == 'ndjson' else 'json.gz'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    done.touch()


def peers(work):
    """The Python of a virtual environment with the peers."""
    home = work / "peers"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "-q", *PEERS, "pyarrow"], check=True)
    return str(python)


def compare(title, engines, runs, events=None):
    """Lets the engines take turns, prints the medians, and fails where the answers differ."""
    found = {name: [] for name in engines}
    for _ in range(runs):
        for name, run in engines.items():
            found[name].append(run())
    first = next(iter(found))
    expected = found[first][0]["rows"]
    for name, results in found.items():
        if any(result["rows"] != expected for result in results):
            sys.exit(f"{title}: {name} answers differently from {first}: {results[0]['rows'][:3]} and {expected[:3]}")
    print(f"\n{title}: {len(expected)} rows, the same from all")
    for name, results in found.items():
        cpu = statistics.median(result["cpu"] for result in results)
        line = f"  {name:<11} wall {statistics.median(r['wall'] for r in results):6.2f} s   cpu {cpu:6.2f} s   " \
               f"peak {max(r['mb'] for r in results):5.0f} MB"
        if events:
            line += f"   {events / cpu / 1e6:5.2f} M events per CPU-second"
        print(line)
    return {name: statistics.median(result["cpu"] for result in results) for name, results in found.items()}, found


def june_of_queries(table):
    """The query as the file has it, for Trino takes it as it is."""
    text = pathlib.Path("queries/telemetry/june.sql").read_text()
    return text.replace("${events:-events_json}", table).rstrip().rstrip(";")


def june(args, python, work):
    home = work / "telemetry"
    program = [args.headwater, "--state", str(home / "state")]
    if not (home / "loaded").exists():
        subprocess.run([args.headwater, "generate", "telemetry", str(home / "raw")], check=True)
        for file in ("lake", "load"):
            subprocess.run([*program, "run", f"queries/telemetry/{file}.sql", "--param", f"lake={home}"], check=True)
        (home / "loaded").touch()
    folder = home / "events_raw"
    if args.trino:
        args.trino.declare()
    threads = str(os.cpu_count())
    for kind, table in (("json", "events_json"), ("parquet", "events_parquet")):
        duck = f"read_json('{folder}/json/name=*/d=*/*', hive_partitioning=true, format='newline_delimited', " \
               "columns={tstamp:'TIMESTAMP', payload:'VARCHAR', payload_md5:'VARCHAR', name:'VARCHAR', d:'VARCHAR'})" \
            if kind == "json" else f"read_parquet('{folder}/parquet/name=*/d=*/*', hive_partitioning=true)"
        format_ = "JSON" if kind == "json" else "PARQUET"
        extra = " OPTIONS ('format.compression' 'gzip')" if kind == "json" else ""
        declared = "" if kind == "parquet" else " (tstamp TIMESTAMP, payload VARCHAR, payload_md5 VARCHAR, name VARCHAR, d VARCHAR)"
        fusion = f"CREATE EXTERNAL TABLE events{declared} STORED AS {format_} PARTITIONED BY (name, d) " \
                 f"LOCATION '{folder}/{kind}/'{extra}"
        if kind == "parquet":
            fusion = f"CREATE EXTERNAL TABLE events STORED AS PARQUET PARTITIONED BY (name, d) LOCATION '{folder}/{kind}/'"
        trino = {"trino": lambda table=table: args.trino.ask(june_of_queries(table))} if args.trino else {}
        cpu, found = compare(f"june, {kind}", {
            "headwater": lambda table=table: measure(
                [*program, "--format", "csv", "--stats", "json", "run", "queries/telemetry/june.sql",
                 "--param", f"events={table}"]),
            "duckdb": lambda duck=duck: measure([python, "-c", DUCKDB, JUNE["duckdb"].format(table=duck), threads]),
            "datafusion": lambda fusion=fusion: measure(
                [python, "-c", DATAFUSION, JUNE["datafusion"], threads, json.dumps(fusion)]),
            **trino,
        }, args.runs)
        stats = [json.loads(line) for line in found["headwater"][0]["err"].splitlines() if line.startswith("{")][-1]
        print(f"  scanned {stats['bytes_scanned']:,} of {stats['bytes_stored']:,} bytes, "
              f"{stats['partitions_read']} of {stats['partitions_total']} partitions")
        bar(f"june {kind}: CPU of the better peer, at most 1.05 x", cpu["headwater"] / min(cpu["duckdb"], cpu["datafusion"]), 1.05)
        bar(f"june {kind}: peak memory, MB", max(run["mb"] for run in found["headwater"]), 500)
        yield kind, stats["bytes_scanned"]


def window(args, python, work):
    home = work / "window"
    generate_events(home, args.events)
    program = [args.headwater, "--state", str(home / "state")]
    columns = "ts timestamp, kind string, amount double"
    serde = "ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'"
    subprocess.run([*program, "-c", f"""
        CREATE EXTERNAL TABLE IF NOT EXISTS events_ndjson ({columns}) {serde} LOCATION '{home}/ndjson/';
        CREATE EXTERNAL TABLE IF NOT EXISTS events_gzip ({columns}) {serde} LOCATION '{home}/gzip/';
        CREATE EXTERNAL TABLE IF NOT EXISTS events_parquet (id string, {columns}, "user" string, page string, ok boolean)
            STORED AS PARQUET LOCATION '{home}/parquet/'""".replace('"user"', "`user`")], check=True)
    if not (home / "parquet").exists():
        subprocess.run([python, "-c", f"""
import duckdb, os
os.makedirs('{home}/parquet')
for part in range({FILES}):
    duckdb.execute(f"COPY (SELECT id, ts, kind, amount, \\"user\\", page, ok FROM read_json('{home}/ndjson/part-{{part}}.json', columns="
        "{{id:'VARCHAR', ts:'TIMESTAMP', kind:'VARCHAR', amount:'DOUBLE', user:'VARCHAR', page:'VARCHAR', ok:'BOOLEAN'}})) "
        f"TO '{home}/parquet/part-{{part}}.parquet' (FORMAT parquet, COMPRESSION snappy)")
"""], check=True)
    core = max(os.sched_getaffinity(0))
    bars = {"ndjson": ("better", 2.0), "gzip": ("better", 1.6), "parquet": ("each", None)}
    for kind in args.kinds:
        duck = f"read_parquet('{home}/parquet/*')" if kind == "parquet" else \
            f"read_json('{home}/{kind}/*', format='newline_delimited', columns={{ts:'TIMESTAMP', kind:'VARCHAR', amount:'DOUBLE'}})"
        declared = "" if kind == "parquet" else " (ts TIMESTAMP, kind VARCHAR, amount DOUBLE)"
        extra = " OPTIONS ('format.compression' 'gzip')" if kind == "gzip" else ""
        format_ = "PARQUET" if kind == "parquet" else "JSON"
        fusion = f"CREATE EXTERNAL TABLE events{declared} STORED AS {format_} LOCATION '{home}/{kind}/'{extra}"
        cpu, _ = compare(f"window, {kind}", {
            "headwater": lambda kind=kind: measure(
                [*program, "--format", "csv", "-c", WINDOW["headwater"].format(table=f"events_{kind}")], core),
            "duckdb": lambda duck=duck: measure([python, "-c", DUCKDB, WINDOW["duckdb"].format(table=duck), "1"], core),
            "datafusion": lambda fusion=fusion: measure(
                [python, "-c", DATAFUSION, WINDOW["datafusion"], "1", json.dumps(fusion)], core),
        }, args.runs, args.events)
        if bars[kind][0] == "better":
            bar(f"window {kind}: times the better peer, at least", min(cpu["duckdb"], cpu["datafusion"]) / cpu["headwater"],
                bars[kind][1], at_least=True)
        else:
            bar("window parquet: times DataFusion, at least", cpu["datafusion"] / cpu["headwater"], 1.0, at_least=True)
            bar("window parquet: times DuckDB, at least", cpu["duckdb"] / cpu["headwater"], 0.85, at_least=True)


def bar(text, value, limit, at_least=False):
    met = value >= limit if at_least else value <= limit
    print(f"  {'met   ' if met else 'MISSED'} {text} {limit}: {value:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--headwater", default="target/release/headwater")
    parser.add_argument("--work", default=os.environ.get("HEADWATER_CACHE", str(pathlib.Path.home() / ".cache/headwater")))
    parser.add_argument("--trino", type=Trino, help="a running server, such as http://localhost:8080")
    parser.add_argument("--only", choices=["june", "window"])
    parser.add_argument("--kinds", nargs="*", default=["ndjson", "gzip", "parquet"])
    args = parser.parse_args()
    args.headwater = str(pathlib.Path(args.headwater).resolve())
    work = pathlib.Path(args.work).resolve() / "bench"
    work.mkdir(parents=True, exist_ok=True)
    os.chdir(pathlib.Path(__file__).resolve().parents[2])
    python = peers(work)
    if args.only != "window":
        scanned = dict(june(args, python, work))
        bar("june: bytes of Parquet to bytes of JSON, at most", scanned["parquet"] / scanned["json"], 0.55)
    if args.only != "june":
        window(args, python, work)


if __name__ == "__main__":
    main()
