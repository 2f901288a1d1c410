#!/usr/bin/env python3
"""Records that arrive over HTTP, per second of the listener's CPU time, in requests of 500 records.

    cargo build --release
    tests/bench/ingest.py [--records 1000000] [--runs 3] [--headwater target/release/headwater]

Records are telemetry events of 235 bytes. Each request is answered when its records are on disk (fsync); then they are
decoded and delivered exactly once into a folder of JSON lines, or dropped. `firehose`: PutRecordBatch, each record in
base64, as boto3 sends it; `lines`: the same records as lines of JSON. Clients are four threads with a connection each;
their CPU time is not counted. CPU is user plus system time of the whole process, from its start to its end.

Every figure is the median of the runs, which take turns.
"""

import argparse
import base64
import http.client
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

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
    path = "/events" if kind == "lines" else "/"
    figures = measure([binary, "run", "ingest.sql"], folder, port, path, kind, records)
    if sink == "files":
        written = sum(file.read_bytes().count(b"\n") for file in (folder / "out").glob("part-*"))
        assert written == figures[3], (written, figures[3])
    return figures


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--records", type=int, default=1_000_000)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--headwater", default="target/release/headwater")
    given = arguments.parse_args()
    binary = str(pathlib.Path(given.headwater).resolve())
    runs = {f"headwater {kind} {sink}": (lambda folder, kind=kind, sink=sink: headwater(binary, folder, kind, sink, given.records))
            for kind in ("firehose", "lines") for sink in ("files", "dropped")}
    found = {name: [] for name in runs}
    for _ in range(given.runs):
        for name, run in runs.items():
            folder = pathlib.Path(tempfile.mkdtemp(prefix="ingest-"))
            try:
                found[name].append(run(folder))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    print(f"{'':26} {'records/CPU-s':>14} {'records/s':>10} {'MB':>5}")
    for name, figures in found.items():
        cpu, wall, memory, _ = (statistics.median(column) for column in zip(*figures))
        print(f"{name:26} {cpu:14,.0f} {wall:10,.0f} {memory:5.0f}")


if __name__ == "__main__":
    main()
