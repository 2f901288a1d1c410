#!/usr/bin/env python3
"""Records what a running Trino answers to statements, one case a line.

    record.py [--server http://127.0.0.1:8880] STATEMENTS.sql ... > CASES.tsv

Input: statements, one a line, each line `family<TAB>statement`; empty lines and lines that start with `#` are passed over.
Output: `family<TAB>JSON string of the statement<TAB>answer`; the answer is `ERROR:CODE`, or JSON with `t` (column types),
`r` (rows as the HTTP protocol writes them), `o` = 1 when the statement asks for an order, `n` (names) for the family `naming`.
"""
import argparse
import json
import re
import sys
import urllib.request

HEADERS = {"X-Trino-User": "hw", "X-Trino-Catalog": "memory", "X-Trino-Schema": "default", "X-Trino-Time-Zone": "UTC",
           "X-Trino-Client-Capabilities": "PARAMETRIC_DATETIME",
           "X-Trino-Session": "query_max_execution_time=60s"}


def request(url, body=None):
    data = None if body is None else body.encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=data, headers=HEADERS), timeout=300) as reply:
        return json.loads(reply.read(), parse_float=float)


def answer(server, statement):
    reply = request(server + "/v1/statement", statement)
    columns, rows = None, []
    while True:
        if "error" in reply:
            return "ERROR:" + reply["error"]["errorName"]
        columns = reply.get("columns") or columns
        rows += reply.get("data") or []
        if "nextUri" not in reply:
            return {"columns": columns or [], "rows": rows}
        reply = request(reply["nextUri"])


def is_ordered(statement):
    """Whether ORDER BY stands at the outermost level: outside every parenthesis and literal."""
    text = re.sub(r"'(?:[^']|'')*'", "''", statement)
    previous = None
    while previous != text:
        previous, text = text, re.sub(r"\([^()]*\)", "", text)
    return re.search(r"\border\s+by\b", text, re.I) is not None


def case(server, family, statement):
    got = answer(server, statement)
    if isinstance(got, str):
        return got
    out = {"t": [column["type"] for column in got["columns"]], "r": got["rows"]}
    if is_ordered(statement):
        out["o"] = 1
    if family == "naming":
        out["n"] = [column["name"] for column in got["columns"]]
    return json.dumps(out, ensure_ascii=False, separators=(",", ":"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default="http://127.0.0.1:8880")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    for path in options.files:
        for line in open(path, encoding="utf-8"):
            line = line.rstrip("\n")
            if not line or line.startswith("#"):
                continue
            family, statement = line.split("\t", 1)
            print(family, json.dumps(statement, ensure_ascii=False), case(options.server, family, statement), sep="\t")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
