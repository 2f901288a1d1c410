#!/usr/bin/env python3
"""The engagement pipeline at the speed of the emulators: what it moves, and what share of the CPU is its own.

    cargo build --release
    tests/bench/aws.py [--events 20000] [--posts 10000] [--shards 4] [--runs 3] [--peers] [--headwater target/release/headwater]

`read`: engagements that are in a Kinesis stream become files and items of 30-second counts (`queries/engagement/aws.sql`
and `count.sql`, `--once`). `count`: the items alone. `write`: posts in files become Parquet and items (`posts.sql`,
`--once`). The servers are kinesis-local and DynamoDB Local, which the tests of services install. CPU is user plus system
time of whole processes, of Headwater and of both servers; the share is the job's of all. Items are counted afterwards.
The jobs take turns; each line is a run, and the last ones are medians.

`--peers` runs two others beside `count` (the network, Java and Maven are needed once):
- `flink`: Flink 1.19.3 with Flink's connectors (Kinesis 4.0.0-1.16, DynamoDB 4.3.0-1.19; newer ones were not to be had
  where this was measured), one task a shard, a checkpoint every ten seconds. A window is put by its key, so that a repeat
  does no harm, as with Headwater's `check`. It runs until its items stay as they are; time and CPU are taken when the last
  came. `flink, started` leaves out what it took until its first items: its start, and some of the reading.
- `function`: what is run today as a function of a stream, in Python with boto3: of each 1,000 records of a shard, UpdateItem
  adds the counts. A repeated batch counts twice. It ends when it has read all events.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import peers
from peers import CACHE

QUERIES = pathlib.Path(__file__).resolve().parents[2] / "queries" / "engagement"

CLIENT = """
import sys, json, time, pathlib
import boto3
action, url, name, argument = sys.argv[1:5]
options = dict(endpoint_url=url, region_name="us-east-1", aws_access_key_id="local", aws_secret_access_key="local")
if action == "put":
    client, shards = boto3.client("kinesis", **options), int(sys.argv[5])
    client.create_stream(StreamName=name, ShardCount=shards)
    while client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
        time.sleep(0.1)
    lines = [line for file in sorted(pathlib.Path(argument).glob("*")) for line in file.read_text().splitlines()]
    lines.sort(key=lambda line: json.loads(line)["timestamp"])
    for first in range(0, len(lines), 500):
        records = [{"Data": line.encode(), "PartitionKey": json.loads(line)["post_id"]} for line in lines[first:first + 500]]
        while records:
            reply = client.put_records(StreamName=name, Records=records)["Records"]
            records = [record for record, one in zip(records, reply) if "ErrorCode" in one]
elif action == "table":
    client, keys = boto3.client("dynamodb", **options), argument.split(",")
    client.create_table(TableName=name, BillingMode="PAY_PER_REQUEST",
        KeySchema=[dict(AttributeName=key, KeyType=["HASH", "RANGE"][n]) for n, key in enumerate(keys)],
        AttributeDefinitions=[dict(AttributeName=key, AttributeType="S") for key in keys])
else:
    pages = boto3.client("dynamodb", **options).get_paginator("scan").paginate(TableName=name)
    items = [item for page in pages for item in page["Items"]]
    total = sum(int(value["N"]) for item in items for key, value in item.items() if key.startswith("engagement_counts."))
    print(len(items), total)
"""

FUNCTION = """
import collections, json, sys, threading, time
import boto3
streams, tables, name, events = *sys.argv[1:4], int(sys.argv[4])
options = dict(region_name="us-east-1", aws_access_key_id="local", aws_secret_access_key="local")
kinesis, dynamo = boto3.client("kinesis", endpoint_url=streams, **options), boto3.client("dynamodb", endpoint_url=tables, **options)
done, lock = 0, threading.Lock()
def window(text):
    return text[:17] + ("00" if int(text[17:19]) < 30 else "30") + "Z"
def add(records):
    counts = collections.Counter()
    for event in (json.loads(record["Data"]) for record in records):
        counts[event["post_id"], window(event["timestamp"]), event["engagement_type"]] += 1
    for (post, start, kind), number in counts.items():
        dynamo.update_item(TableName=name, Key={"post_id": {"S": post}, "window_start": {"S": start}},
            UpdateExpression="ADD #kind :number", ExpressionAttributeNames={"#kind": "engagement_counts." + kind},
            ExpressionAttributeValues={":number": {"N": str(number)}})
def follow(shard):
    global done
    iterator = kinesis.get_shard_iterator(StreamName="input_stream", ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    while done < events:
        reply = kinesis.get_records(ShardIterator=iterator, Limit=1000)
        iterator, records = reply["NextShardIterator"], reply["Records"]
        add(records)
        with lock:
            done += len(records)
        if not records:
            time.sleep(0.2)
shards = kinesis.list_shards(StreamName="input_stream")["Shards"]
[threading.Thread(target=follow, args=(shard["ShardId"],)).start() for shard in shards]
"""

FLINK = """CREATE TABLE counts (post_id STRING, window_start STRING, window_end STRING, `engagement_counts.like` BIGINT,
    `engagement_counts.comment` BIGINT, `engagement_counts.share` BIGINT) PARTITIONED BY (post_id, window_start)
    WITH ('connector' = 'dynamodb', 'table-name' = '{table}', 'aws.region' = 'us-east-1', 'aws.endpoint' = '{tables}',
    'aws.credentials.provider' = 'BASIC', 'aws.credentials.basic.accesskeyid' = 'local',
    'aws.credentials.basic.secretkey' = 'local');
INSERT INTO counts SELECT post_id, DATE_FORMAT(window_start, '{text}'), DATE_FORMAT(window_end, '{text}'),
    COUNT(*) FILTER (WHERE engagement_type = 'like'), COUNT(*) FILTER (WHERE engagement_type = 'comment'),
    COUNT(*) FILTER (WHERE engagement_type = 'share')
    FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(engaged_at), INTERVAL '30' SECOND)) GROUP BY post_id, window_start, window_end"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def cpu_of(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Servers:
    def __init__(self, folder):
        java, package = CACHE / "dynamodb-local-3.0.0" / "lib", CACHE / "kinesis-local-0.6.2/node_modules/kinesis-local"
        if not java.exists() or not package.exists():
            sys.exit(f"no servers in {CACHE}: run the tests of services once")
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
        ports = [free_port() for _ in range(3)]
        environment = dict(os.environ, KINESIS_MOCK_CERT_PATH=str(package / "server.json"),
                           KINESIS_MOCK_PLAIN_PORT=str(ports[0]), KINESIS_MOCK_TLS_PORT=str(ports[1]))
        self.kinesis = subprocess.Popen(["node", package / "main.js"], env=environment, **quiet)
        self.dynamo = subprocess.Popen(["java", "-Xmx512m", f"-Djava.library.path={java}", "-cp", f"{java}/*",
            "software.amazon.dynamodb.services.local.main.ServerRunner", "-inMemory", "-port", str(ports[2])], **quiet)
        for port in (ports[0], ports[2]):
            for _ in range(600):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
        self.streams, self.tables = f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[2]}"

    def cpu(self):
        return cpu_of(self.kinesis) + cpu_of(self.dynamo)

    def items(self, table):
        """How many items a table has; it does not check who asks."""
        headers = {"X-Amz-Target": "DynamoDB_20120810.DescribeTable", "Content-Type": "application/x-amz-json-1.0",
                   "Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request,"
                                    " SignedHeaders=host, Signature=none"}
        request = urllib.request.Request(self.tables, json.dumps({"TableName": table}).encode(), headers)
        return json.load(urllib.request.urlopen(request))["Table"]["ItemCount"]

    def stop(self):
        for server in (self.kinesis, self.dynamo):
            server.kill()
            server.wait()


class Bench:
    """Jobs over one stream, each with a table of its own."""

    def __init__(self, given, folder):
        self.given, self.folder, self.servers, self.found = given, folder, Servers(folder), {}
        (folder / "client.py").write_text(CLIENT)
        (folder / "function.py").write_text(FUNCTION)
        (folder / "only.sql").write_text("INSERT INTO processed_stream" + (QUERIES / "count.sql").read_text().split(
            "INSERT INTO processed_stream")[1])
        if given.peers:
            self.classes = f"{peers.flink()}:{folder}"
            source = pathlib.Path(__file__).with_name("FlinkCounts.java")
            command = ["javac", "-nowarn", "-cp", self.classes, "-d", folder, source]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

    def python(self, script, *words):
        return [CACHE / "boto3/venv/bin/python", self.folder / script, *map(str, words)]

    def client(self, *words):
        found = subprocess.run(self.python("client.py", *words), check=True, capture_output=True, text=True)
        return found.stdout.split()

    def table(self, name, keys="post_id,window_start"):
        self.client("table", self.servers.tables, name, keys)
        return name

    def counted(self, name):
        return map(int, self.client("count", self.servers.tables, name, "-"))

    def keep(self, name, number, seconds, ours, theirs, said=""):
        """A run, printed and kept: what it moved in a second, in a second of its CPU, and its share of the CPU."""
        self.found.setdefault(name, []).append((number, seconds, ours, theirs))
        self.show(name, number, seconds, ours, theirs, said)

    @staticmethod
    def show(name, number, seconds, ours, theirs, said=""):
        print(f"{name:15} {number / seconds:8,.0f}/s  {number / ours:8,.0f} a CPU-second  share {ours / (ours + theirs):4.0%}  "
              f"({seconds:5.1f} s, CPU-s {ours:5.2f} and servers' {theirs:5.2f}) {said}", flush=True)

    def whole(self, command):
        """Seconds, CPU and the servers' CPU of a process from its start to its end."""
        environment = dict(os.environ, AWS_ENDPOINT_URL_KINESIS=self.servers.streams, AWS_ACCESS_KEY_ID="local",
                           AWS_ENDPOINT_URL_DYNAMODB=self.servers.tables, AWS_SECRET_ACCESS_KEY="local")
        before, begun = self.servers.cpu(), time.monotonic()
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        said = child.stderr.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
        assert status == 0, said
        return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, self.servers.cpu() - before

    def headwater(self, name, run, *files):
        files = [QUERIES / "aws.sql", QUERIES / "tables.sql", *files]
        parameters = [f"lake={self.folder}/lake", f"table={name}{run}", f"items_table={name}{run}"]
        return self.whole([self.given.binary, "--state", self.folder / f"{name}{run}", "run", *files, "--once",
                           *(word for parameter in parameters for word in ("--param", parameter))])

    def windows(self, name, figures, table):
        items, events = self.counted(table)
        self.keep(name, self.given.events, *figures, f"{items} items of {events} events")

    def read(self, run):
        table = self.table(f"read{run}")
        self.windows("read", self.headwater("read", run, QUERIES / "count.sql"), table)

    def count(self, run):
        table = self.table(f"count{run}")
        self.windows("count", self.headwater("count", run, self.folder / "only.sql"), table)

    def write(self, run):
        table = self.table(f"write{run}", "post_id")
        figures = self.headwater("write", run, QUERIES / "posts.sql")
        assert next(self.counted(table)) == self.given.posts
        self.keep("write", self.given.posts, *figures)

    def function(self, run):
        table = self.table(f"function{run}")
        command = self.python("function.py", self.servers.streams, self.servers.tables, table, self.given.events)
        self.windows("function", self.whole(command), table)

    def flink(self, run):
        """Runs until there are no new items for ten seconds; what counts is when the first and the last were seen."""
        table, script = self.table(f"flink{run}"), self.folder / "flink.sql"
        script.write_text(FLINK.format(table=table, tables=self.servers.tables, text="yyyy-MM-dd''T''HH:mm:ss''Z''"))
        opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.util", "java.lang", "java.time")]
        command = ["java", "-Xmx1g", "-Duser.timezone=UTC", *opened, "-cp", self.classes, "FlinkCounts", self.servers.streams,
                   str(self.given.shards), script]
        before, begun, seen = self.servers.cpu(), time.monotonic(), []
        with open(self.folder / "flink.log", "w") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log)
            while time.monotonic() - begun < 120 if not seen else time.monotonic() - begun - seen[-1][1] < 10:
                assert child.poll() is None, (self.folder / "flink.log").read_text()
                items = self.servers.items(table)
                if items != (seen[-1][0] if seen else 0):
                    seen.append((items, time.monotonic() - begun, cpu_of(child), self.servers.cpu() - before))
                time.sleep(0.3)
            child.terminate()
            child.wait()
        assert seen, (self.folder / "flink.log").read_text()
        self.windows("flink", seen[-1][1:], table)
        items, *figures = (last - first for first, last in zip(seen[0], seen[-1]))
        self.keep("flink, started", self.given.events * items / seen[-1][0], *figures)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=20_000)
    arguments.add_argument("--posts", type=int, default=10_000)
    arguments.add_argument("--shards", type=int, default=4)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--peers", action="store_true")
    arguments.add_argument("--headwater", default="target/release/headwater")
    given = arguments.parse_args()
    given.binary = str(pathlib.Path(given.headwater).resolve())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="aws-"))
    bench = Bench(given, folder)
    try:
        for dataset, rows, to in (("engagements", given.events, "engagements"), ("posts", given.posts, "lake/rawData/posts")):
            subprocess.run([given.binary, "generate", dataset, "--rows", str(rows), folder / to], check=True)
        bench.client("put", bench.servers.streams, "input_stream", folder / "engagements", given.shards)
        jobs = [bench.read, bench.write, bench.count] + ([bench.flink, bench.function] if given.peers else [])
        for run in range(given.runs):
            for job in jobs:
                job(run)
        print(f"\nmedians of {given.runs}")
        for name, runs in bench.found.items():
            Bench.show(name, *(statistics.median(column) for column in zip(*runs)))
    finally:
        bench.servers.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
