#!/usr/bin/env python3
"""Records that arrive over HTTP, per second of the listener's CPU time, in requests of 500 records.

    cargo build --release
    tests/bench/ingest.py [--records 1000000] [--runs 3] [--peers] [--headwater target/release/headwater]

Records are telemetry events of 235 bytes. Each request is answered when its records are on disk (fsync); then they are
decoded and delivered exactly once into a folder of JSON lines, or dropped. `firehose`: PutRecordBatch, each record in
base64, as boto3 sends it; `lines`: the same records as lines of JSON. Clients are four threads with a connection each;
their CPU time is not counted. CPU is user plus system time of the whole process, from its start to its end.

`--peers` adds `array`, the same records as one array of JSON, and Telegraf 1.37.2 beside it, with its HTTP listener and a
file of JSON lines (the network and Go are needed once); its parser takes arrays, not lines. It promises nothing: a request
is answered when its records are in memory, where they are lost with the process, or when they are more than its buffer
holds (here it holds all of them).

Every figure is the median of the runs, which take turns.
"""

import argparse
import base64
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

import peers

BATCH = 500
CLIENTS = 4


def event(n):
    session = f"{n * 2654435761 % 2**32:08x}{n:024x}"
    payload = json.dumps({"dvce_os": ["iOS", "Android", "Windows"][n % 3], "session_id": session})
    name = ["anonymous_visited", "account_created", "measurement_recorded"][n % 3]
    return json.dumps({"name": name, "tstamp": f"2023-06-{1 + n % 28:02d} 14:27:52.000000", "payload": payload,
                       "payload_md5": session}) + "\n"


def bodies(kind, count):
    """A few requests, sent again and again."""
    for first in range(0, count, BATCH):
        events = [event(n) for n in range(first, first + BATCH)]
        if kind == "lines":
            yield "".join(events).encode(), {}
        elif kind == "array":
            yield f"[{','.join(event.strip() for event in events)}]".encode(), {}
        else:
            records = [{"Data": base64.b64encode(line.encode()).decode()} for line in events]
            body = json.dumps({"DeliveryStreamName": "events", "Records": records}).encode()
            yield body, {"X-Amz-Target": "Firehose_20150804.PutRecordBatch", "Content-Type": "application/x-amz-json-1.1"}


def send(port, path, requests, times):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for number in range(times):
        body, headers = requests[number % len(requests)]
        while True:
            connection.request("POST", path, body, headers)
            reply = connection.getresponse()
            reply.read()
            if reply.status == 200:
                break
            assert reply.status == 503, reply.status
            time.sleep(0.01)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def measure(command, folder, port, path, kind, records, environment=None):
    """Records a second of the server's CPU, and of the clock while they were sent."""
    log = open(folder / "log", "w")
    child = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert child.poll() is None, (folder / "log").read_text()
        time.sleep(0.05)
    requests = list(bodies(kind, 20 * BATCH))
    times = records // BATCH // CLIENTS
    threads = [threading.Thread(target=send, args=(port, path, requests, times)) for _ in range(CLIENTS)]
    begun = time.monotonic()
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    sent = time.monotonic() - begun
    child.send_signal(signal.SIGINT)
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, (status, (folder / "log").read_text())
    done = times * BATCH * CLIENTS
    return done / (usage.ru_utime + usage.ru_stime), done / sent, usage.ru_maxrss / 1024, done


def headwater(binary, folder, kind, sink, records):
    port = free_port()
    options = {"files": f"'connector' = 'filesystem', 'path' = '{folder}/out', 'format' = 'json'",
               "dropped": "'connector' = 'blackhole'"}[sink]
    columns = "name VARCHAR, tstamp TIMESTAMP(3), payload VARCHAR, payload_md5 VARCHAR"
    (folder / "ingest.sql").write_text(
        f"CREATE TABLE events ({columns}) WITH ('connector' = 'http', 'listen' = '127.0.0.1:{port}', 'stream' = 'events',"
        f" 'path' = '/events', 'format' = 'json');\nCREATE TABLE kept ({columns}) WITH ({options});\n"
        "INSERT INTO kept SELECT * FROM events;\n")
    path = "/" if kind == "firehose" else "/events"
    figures = measure([binary, "run", "ingest.sql"], folder, port, path, kind, records)
    if sink == "files":
        check(figures, (folder / "out").glob("part-*"))
    return figures


def check(figures, files):
    """Every record that was sent is a line."""
    written = sum(file.read_bytes().count(b"\n") for file in files)
    assert written == figures[3], (written, figures[3])


TELEGRAF = """
[agent]
  omit_hostname = true
  flush_interval = "1s"
  metric_buffer_limit = {records}
[[inputs.http_listener_v2]]
  service_address = "tcp://127.0.0.1:{port}"
  paths = ["/events"]
  http_success_code = 200
  data_format = "json"
  json_name_key = "name"
  json_string_fields = ["tstamp", "payload", "payload_md5"]
[[outputs.file]]
  files = ["{folder}/events.json"]
  data_format = "json"
"""


def telegraf(binary, folder, records):
    port = free_port()
    (folder / "telegraf.conf").write_text(TELEGRAF.format(folder=folder, port=port, records=records))
    figures = measure([binary, "--config", "telegraf.conf"], folder, port, "/events", "array", records)
    check(figures, [folder / "events.json"])
    return figures


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--records", type=int, default=1_000_000)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--peers", action="store_true")
    arguments.add_argument("--headwater", default="target/release/headwater")
    given = arguments.parse_args()
    binary = str(pathlib.Path(given.headwater).resolve())
    runs = {f"headwater {kind} {sink}": (lambda folder, kind=kind, sink=sink: headwater(binary, folder, kind, sink, given.records))
            for kind in ("firehose", "lines") for sink in ("files", "dropped")}
    if given.peers:
        runs["headwater array files"] = lambda folder: headwater(binary, folder, "array", "files", given.records)
        runs["telegraf array files"] = lambda folder: telegraf(peers.telegraf(), folder, given.records)
    found = {name: [] for name in runs}
    for _ in range(given.runs):
        for name, run in runs.items():
            folder = pathlib.Path(tempfile.mkdtemp(prefix="ingest-"))
            try:
                found[name].append(run(folder))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    print(f"{'':26} {'records/CPU-s':>14} {'records/s':>10} {'MB':>5}   records/CPU-s of each run")
    for name, figures in found.items():
        cpu, wall, memory, _ = (statistics.median(column) for column in zip(*figures))
        each = ", ".join(f"{figure[0]:,.0f}" for figure in figures)
        print(f"{name:26} {cpu:14,.0f} {wall:10,.0f} {memory:5.0f}   {each}")


if __name__ == "__main__":
    main()
