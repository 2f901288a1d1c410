#!/usr/bin/env python3
"""How many objects of a store are fetched at once: Headwater beside DataFusion, over a store that is slow to answer.

    cargo build --release
    tests/bench/read_ahead.py [--objects 256] [--latency-ms 50] [--headwater target/release/headwater] [--peer PYTHON]

A server of this script speaks as much of S3 as a scan needs and answers every request after the latency. Both engines
count and sum the same NDJSON objects with one, two and eight partitions; shown are the seconds of the whole process and
the most requests that were open at one time. DataFusion opens one object for each partition, so its time is that of
all requests one after another, divided by the partitions. `--peer` is a Python that has `datafusion` 55, such as that
of tests/bench/lake.py; without it Headwater runs alone.
"""

import argparse
import http.server
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

ROWS = 200
PEER = """
import sys
from datafusion import SessionConfig, SessionContext
from datafusion.object_store import AmazonS3
context = SessionContext(SessionConfig().with_target_partitions(int(sys.argv[2])))
store = AmazonS3(bucket_name='b', region='us-east-1', endpoint=sys.argv[1], allow_http=True, access_key_id='k', secret_access_key='s')
context.register_object_store('s3://', store, 'b')
context.sql("CREATE EXTERNAL TABLE t (x INT) STORED AS JSON LOCATION 's3://b/t/'")
row = context.sql('SELECT count(*) AS n, sum(x) AS s FROM t').collect()[0].to_pylist()[0]
print(row['n'], row['s'])
"""


class Store(http.server.BaseHTTPRequestHandler):
    """Objects `t/00000.json`, ..: listed and read, nothing else."""

    protocol_version = "HTTP/1.1"
    objects = {}
    latency = 0.0
    lock = threading.Lock()
    open = most = 0

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        with Store.lock:
            Store.open += 1
            Store.most = max(Store.most, Store.open)
        time.sleep(Store.latency)
        with Store.lock:
            Store.open -= 1
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        key = url.path.removeprefix("/b").lstrip("/")
        if "list-type" in query:
            return self.answer(200, self.listed(query.get("prefix", "")))
        body = Store.objects.get(key)
        if body is None:
            return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        asked = self.headers.get("Range")
        if not asked:
            return self.answer(200, body)
        start, end = asked.removeprefix("bytes=").split("-")
        start, end = (int(start), int(end or len(body) - 1)) if start else (len(body) - int(end), len(body) - 1)
        self.answer(206, body[start : end + 1], f"bytes {start}-{end}/{len(body)}")

    def listed(self, prefix):
        found = (
            f"<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>1</ETag>"
            f"<Size>{len(body)}</Size></Contents>"
            for key, body in sorted(Store.objects.items())
            if key.startswith(prefix)
        )
        return ("<ListBucketResult><IsTruncated>false</IsTruncated>" + "".join(found) + "</ListBucketResult>").encode()

    def answer(self, status, body, content_range=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.send_header("ETag", '"1"')
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def measured(command, folder, environment):
    Store.most = 0
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed: {done.stderr}")
    return time.monotonic() - start, Store.most, tuple(int(word) for word in done.stdout.split()[-2:])


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--objects", type=int, default=256)
    arguments.add_argument("--latency-ms", type=int, default=50)
    arguments.add_argument("--headwater", default="target/release/headwater")
    arguments.add_argument("--peer")
    chosen = arguments.parse_args()
    lines = "".join(f'{{"x": {n}}}\n' for n in range(ROWS)).encode()
    Store.objects = {f"t/{n:05}.json": lines for n in range(chosen.objects)}
    Store.latency = chosen.latency_ms / 1000
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    expected = (ROWS * chosen.objects, sum(range(ROWS)) * chosen.objects)
    headwater = str(pathlib.Path(chosen.headwater).resolve())
    environment = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
    print(f"{chosen.objects} objects, {chosen.latency_ms} ms a request\n")
    print("| engine | partitions | seconds | requests at once |\n|---|---|---|---|")
    for partitions in (1, 2, 8):
        with tempfile.TemporaryDirectory() as folder:
            sql = f"SET 'parallelism' = '{partitions}'; CREATE EXTERNAL TABLE t (x INT) STORED AS JSON LOCATION 's3://b/t/'; SELECT count(*), sum(x) FROM t"
            seconds, most, out = measured([headwater, "--format", "tsv", "-c", sql], folder, environment)
            if out != expected:
                sys.exit(f"Headwater answers {out}, not {expected}")
            print(f"| Headwater | {partitions} | {seconds:.2f} | {most} |")
            if chosen.peer:
                command = [chosen.peer, "-c", PEER, endpoint, str(partitions)]
                seconds, most, out = measured(command, folder, environment)
                if out != expected:
                    sys.exit(f"DataFusion answers {out}, not {expected}")
                print(f"| DataFusion | {partitions} | {seconds:.2f} | {most} |")


if __name__ == "__main__":
    main()
