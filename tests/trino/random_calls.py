#!/usr/bin/env python3
"""Writes random calls of every function that a running Trino lists: `family<TAB>statement`, one a line.

    random_calls.py [--server URL] [--seed N] [--each N] > CALLS.tsv

Each signature of `SHOW FUNCTIONS` is called with literals drawn from pools by type, edge values and NULL among them.
Signatures that need a lambda or a sketch, volatile functions and those of geometry and learning are passed over.
"""
import argparse
import random
import re

from record import answer

POOLS = {
    "boolean": ["true", "false", "1 = 2"],
    "tinyint": ["TINYINT '5'", "TINYINT '-128'", "TINYINT '127'", "TINYINT '0'"],
    "smallint": ["SMALLINT '7'", "SMALLINT '-32768'", "SMALLINT '300'"],
    "integer": ["0", "1", "-1", "2", "3", "7", "42", "-17", "2147483647", "-2147483648", "100"],
    "bigint": ["BIGINT '0'", "BIGINT '1'", "3", "-5", "BIGINT '12345678901'", "BIGINT '9223372036854775807'",
               "BIGINT '-9223372036854775808'", "255", "10", "2", "64"],
    "real": ["REAL '1.5'", "REAL '-0.1'", "REAL 'NaN'", "REAL '3.4028235E38'", "REAL '0'"],
    "double": ["0e0", "1e0", "-1.5e0", "2.5e0", "0.1e0", "1e20", "1.7976931348623157E308", "nan()", "infinity()",
               "-infinity()", "0.3e0", "-0e0", "123456.789e0", "1e-7"],
    "decimal": ["1.5", "-2.75", "0.00", "123456789012345678.99", "DECIMAL '99999999999999999999999999999999999999'",
                "DECIMAL '10'", "0.1", "-0.5", "2.5", "100.005"],
    "varchar": ["''", "'a'", "'hello world'", "'Hello'", "'héllo wörld'", "'a,b,,c'", "'123'", "'-45.6'", "' pad '",
                "'日本語'", "'😀x'", "'k1=v1;k2=v2'", "'{\"a\":[1,2,{\"b\":null}]}'", "'2024-02-29'",
                "'2024-03-10 02:30:00'", "'http://user@example.com:8080/a/b.html?x=1&y=%20z#frag'", "'a.b.c'",
                "'%'", "'[a-z]+'", "'l'", "'(l)(o)'", "'America/New_York'", "'day'", "'month'", "'hour'", "'%Y-%m-%d'",
                "'yyyy-MM-dd'", "'$.a[1]'", "'ff'", "'NFC'"],
    "char": ["CAST('ab' AS char(4))", "CHAR 'x'", "CAST('' AS char(2))"],
    "varbinary": ["X''", "X'00FF10'", "to_utf8('hello')", "X'DEADBEEF'", "X'0000000000000001'", "X'3FF0000000000000'",
                  "X'80000001'"],
    "date": ["DATE '2024-02-29'", "DATE '1970-01-01'", "DATE '1969-12-31'", "DATE '2023-12-31'", "DATE '2000-01-01'",
             "DATE '0001-01-01'", "DATE '2024-11-03'"],
    "time": ["TIME '01:02:03'", "TIME '23:59:59.999'", "TIME '00:00:00'", "TIME '12:34:56.123456'"],
    "timetz": ["TIME '01:02:03+05:30'", "TIME '23:59:59.999-08:00'"],
    "timestamp": ["TIMESTAMP '2024-02-29 12:34:56'", "TIMESTAMP '1969-12-31 23:59:59.999'",
                  "TIMESTAMP '2024-03-10 02:30:00.123456'", "TIMESTAMP '2023-12-31 23:59:59.999999999'",
                  "TIMESTAMP '2000-01-01 00:00:00.1'", "TIMESTAMP '1900-06-15 08:00:00'"],
    "timestamptz": ["TIMESTAMP '2024-03-10 01:59:59 America/New_York'", "TIMESTAMP '2024-11-03 01:30:00 America/New_York'",
                    "TIMESTAMP '2024-06-01 12:00:00.123 UTC'", "TIMESTAMP '1969-07-20 20:17:40 +05:30'",
                    "TIMESTAMP '2024-10-27 00:30:00 Europe/Berlin'", "TIMESTAMP '2024-01-15 06:00:00.123456 Asia/Tokyo'"],
    "interval day to second": ["INTERVAL '1' DAY", "INTERVAL '-3' HOUR", "INTERVAL '1 02:03:04.567' DAY TO SECOND",
                               "INTERVAL '90' MINUTE"],
    "interval year to month": ["INTERVAL '1' YEAR", "INTERVAL '-5' MONTH", "INTERVAL '2-3' YEAR TO MONTH"],
    "json": ["JSON '{\"a\":[1,2,{\"b\":null}]}'", "JSON '[1,\"x\",null,true]'", "JSON 'null'", "JSON '\"text\"'",
             "JSON '[]'", "JSON '{}'", "JSON '12.5'", "JSON '[1,2,3]'"],
    "jsonpath": ["'$.a'", "'$'", "'$.a[1]'", "'$[0]'", "'$.a[2].b'", "'$[\"a\"]'", "'$.x'", "'bad['", "'$[9]'"],
    "regexp": ["'l+'", "'[a-z]+'", "'(h)(e)'", "'\\d+'", "'('", "''", "'^.'", "'o$'", "','", "'(?i)H'"],
    "uuid": ["UUID '12151fd2-7586-11e9-8f9e-2a86e4085a59'"],
    "codepoints": ["'abc'", "' '"],
    "unknown": ["NULL"],
}
GENERIC = ["integer", "varchar", "double", "date", "bigint", "boolean", "decimal", "timestamp"]
PASSED = re.compile(r"^(st_|to_geo|geometry|bing|simplify|convex|great_circle|line_|from_geo|to_spher|spatial|"
                    r"learn|classify|regress|features|rand|random|shuffle|now|uuid|current|local|version|exclude|"
                    r"to_encoded|from_encoded|flatten_geo|expand_env|\$)")
SKETCH = re.compile(r"function|digest|hyperloglog|geometry|model|color|classifier|regressor|bingtile|P4|setdigest", re.I)


def split(text):
    depth, start, parts = 0, 0, []
    for at, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    return parts + [text[start:].strip()] if text.strip() else []


def literal(of, bound, pick):
    of = of.strip()
    if pick.random() < 0.06:
        return "NULL"
    low = of.lower()
    if re.fullmatch(r"[a-z][0-9]?|[A-Z][0-9]?", of) and low not in POOLS:
        bound.setdefault(of, pick.choice(GENERIC))
        return literal(bound[of], bound, pick)
    if low.startswith("array("):
        inner = of[6:-1]
        count = pick.choice([0, 1, 2, 3, 3, 4])
        if count == 0 and pick.random() < 0.5:
            return "ARRAY[]"
        return "ARRAY[" + ", ".join(literal(inner, bound, pick) for _ in range(count)) + "]"
    if low.startswith("map("):
        key, value = split(of[4:-1])
        if key.lower() not in POOLS:
            bound.setdefault(key, pick.choice(["integer", "varchar", "date"]))
            key = bound[key]
        keys = pick.sample(POOLS[key.lower()], pick.choice([0, 1, 2, 2]))
        return (f"MAP(ARRAY[{', '.join(keys)}], ARRAY[" + ", ".join(literal(value, bound, pick) for _ in keys) + "])")
    if low.startswith("row("):
        fields = [field.split(" ")[-1] if field.startswith('"') else field for field in split(of[4:-1])]
        return "ROW(" + ", ".join(literal(field, bound, pick) for field in fields) + ")"
    name = re.sub(r"\(.*?\)", "", low)
    if name.startswith("timestamp"):
        name = "timestamptz" if "zone" in name else "timestamp"
    elif name.startswith("time"):
        name = "timetz" if "zone" in name else "time"
    elif name in ("joniregexp", "jonipattern", "re2jregexp"):
        name = "regexp"
    elif name in ("likepattern",):
        name = "varchar"
    elif name == "jsonpath2016":
        return None
    if name not in POOLS:
        return None
    if pick.random() < 0.04:
        name = pick.choice(list(POOLS))
    return pick.choice(POOLS[name])


def call(name, arguments, kind, pick):
    if kind == "scalar":
        bound = {}
        values = [literal(of, bound, pick) for of in arguments]
        return None if None in values else f"SELECT {name}({', '.join(values)})"
    bound, rows = {}, []
    for _ in range(pick.choice([1, 2, 3, 4, 5])):
        rows.append([literal(of, bound, pick) for of in arguments])
    if any(None in row for row in rows):
        return None
    if kind == "aggregate" and arguments:
        columns = [f"c{index}" for index in range(len(arguments))]
        values = ", ".join("(" + ", ".join(row) + ")" for row in rows)
        tail = pick.choice(["", "", "", " WHERE false", " GROUP BY true"])
        return f"SELECT {name}({', '.join(columns)}) FROM (VALUES {values}) t({', '.join(columns)}){tail}"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default="http://127.0.0.1:8880")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=5)
    options = parser.parse_args()
    pick = random.Random(options.seed)
    for name, result, arguments, kind, *_ in answer(options.server, "SHOW FUNCTIONS")["rows"]:
        if PASSED.search(name) or SKETCH.search(arguments) or SKETCH.search(result):
            continue
        made = set()
        for _ in range(options.each):
            statement = call(name, split(arguments), kind, pick)
            if statement and statement not in made:
                made.add(statement)
                print(f"{kind}\t{statement}")


if __name__ == "__main__":
    main()
