#!/usr/bin/env python3
"""The engagement pipeline at the speed of the emulators: what it moves, and what share of the CPU is its own.

    cargo build --release
    tests/bench/aws.py [--events 20000] [--posts 10000] [--shards 4] [--headwater target/release/headwater]

`read`: engagements that are in a Kinesis stream become files and items of 30-second counts (`queries/engagement/aws.sql`
and `count.sql`, `--once`). `write`: posts in files become Parquet and items (`posts.sql`, `--once`). The servers are
kinesis-local and DynamoDB Local, which the tests of services install. CPU is user plus system time of whole processes, of
Headwater and of both servers; the share is Headwater's of all. Items are counted afterwards.
"""

import argparse
import os
import pathlib
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time

CACHE = pathlib.Path(os.environ.get("HEADWATER_CACHE", pathlib.Path.home() / ".cache" / "headwater")) / "services"
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

    def stop(self):
        for server in (self.kinesis, self.dynamo):
            server.kill()
            server.wait()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=20_000)
    arguments.add_argument("--posts", type=int, default=10_000)
    arguments.add_argument("--shards", type=int, default=4)
    arguments.add_argument("--headwater", default="target/release/headwater")
    given = arguments.parse_args()
    binary = str(pathlib.Path(given.headwater).resolve())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="aws-"))
    servers = Servers(folder)
    (folder / "client.py").write_text(CLIENT)

    def client(*words):
        command = [CACHE / "boto3/venv/bin/python", folder / "client.py", *map(str, words)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    def run(name, files, what, number):
        environment = dict(os.environ, AWS_ENDPOINT_URL_KINESIS=servers.streams, AWS_ENDPOINT_URL_DYNAMODB=servers.tables,
                           AWS_ACCESS_KEY_ID="local", AWS_SECRET_ACCESS_KEY="local")
        command = [binary, "--state", folder / name, "run", *(QUERIES / file for file in files), "--once", "--param",
                   f"lake={folder}/lake"]
        before, begun = servers.cpu(), time.monotonic()
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        said = child.stderr.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
        assert status == 0, said
        seconds, theirs = time.monotonic() - begun, servers.cpu() - before
        ours = usage.ru_utime + usage.ru_stime
        print(f"{name:6} {number:7,} {what}  {seconds:6.1f} s  {number / seconds:8,.0f}/s  ours {ours:5.2f} CPU-s"
              f" ({number / ours:,.0f} a CPU-second), servers {theirs:6.2f}; share {ours / (ours + theirs):.0%}")

    try:
        subprocess.run([binary, "generate", "engagements", "--rows", str(given.events), folder / "engagements"], check=True)
        subprocess.run([binary, "generate", "posts", "--rows", str(given.posts), folder / "lake/rawData/posts"], check=True)
        client("table", servers.tables, "ProcessedStream", "post_id,window_start")
        client("table", servers.tables, "ProcessedData", "post_id")
        client("put", servers.streams, "input_stream", folder / "engagements", given.shards)
        run("read", ["aws.sql", "tables.sql", "count.sql"], "events", given.events)
        items, total = client("count", servers.tables, "ProcessedStream", "-")
        print(f"       {items} items of {total} events in windows that have closed")
        run("write", ["aws.sql", "tables.sql", "posts.sql"], "posts", given.posts)
        assert client("count", servers.tables, "ProcessedData", "-")[0] == str(given.posts)
    finally:
        servers.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
