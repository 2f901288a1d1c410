#!/usr/bin/env python3
"""Writes random calls in bulk: `family<TAB>statement`, each statement one expression over many rows of random arguments.

    random_rows.py [--server URL] [--seed N] [--rows N] [--each N] > ROWS.tsv

Every scalar function that a running Trino lists, operators, casts, subscripts, zone shifts and fields are called with
values drawn per row; `try` makes a NULL of what fails, so that one bad argument does not hide the rest. `--rows` calls a
statement; a mean of three hundred statements of each round makes a hundred thousand calls of `--rows 100 --each 3`.
"""
import argparse
import random

from random_calls import PASSED, POOLS, SKETCH, split
from record import answer

WORDS = ["", "a", "A", "abc", "hello", "Hello World", "héllo", "日本語", "😀x", "  pad ", "a,b,,c", "k=v;k2=w", "xyzzy",
         "0", "-1", "12.5", "1e3", "true", "2024-02-29", "2024-03-10 02:30:00", "12:34:56", "{}", "[1,2,3]", "null",
         "{\"a\":{\"b\":[1,null,\"x\"]},\"c\":1.5}", "http://u@h.com:80/p/a?q=1&r=%20#f", "ff", "%", "_", "\\", "'", "\"", "\t",
         "a.b.c", "$.a", "(", "[a-z]+", "l", "day", "month", "NFC", "aaaa", "Ünïcödé", "ß", "ﬁ", "İ", "e\u0301"]
PATTERNS = ["l+", "[a-z]+", "(.)(.)", "\\d+", "^.", "o$", ",", "(?i)H", "", "\\s", "a|b", "[^a]", "(a)(b)?", ".*?", "\\bh",
            "\\w+", "x*", "(?:l|o)+", "\\.", "[0-9]{2}", "é", "^$", "a{2,3}", "\\p{L}", "(?<n>l)"]
PATHS = ["$", "$.a", "$.a.b", "$.a.b[0]", "$.a.b[9]", "$[0]", "$[2]", "$.c", "$[\"a\"]", "$.x.y", "$.a.b[*]", "$.*"]
FORMATS = ["%Y-%m-%d", "%H:%i:%s", "%W %M %e %Y", "%y%m%d", "%j", "%r", "%T", "%f", "%a %b", "%h %p", "%v %x", "%c/%k/%l"]
JODA = ["yyyy-MM-dd", "HH:mm:ss.SSS", "EEE, d MMM yy", "D e", "xxxx-'W'ww", "h a", "K k", "YYYY G", "EEEE MMMM"]
UNITS = ["millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year"]
ZONES = ["America/New_York", "Europe/London", "Asia/Kolkata", "Australia/Lord_Howe", "UTC", "+05:45", "Pacific/Apia",
         "America/Sao_Paulo", "Africa/Casablanca", "-03:30", "Asia/Tehran", "Europe/Berlin", "Asia/Kathmandu",
         "America/St_Johns", "Pacific/Chatham", "Antarctica/Troll"]
SWITCHES = ["2024-03-10", "2024-11-03", "2024-03-31", "2024-10-27", "2024-02-29", "2024-12-31", "2011-12-30", "1970-01-01",
            "2000-02-29", "1969-12-31", "2024-04-07", "2024-10-06"]
CAST_TYPES = ["boolean", "tinyint", "smallint", "integer", "bigint", "real", "double", "decimal(10,2)", "decimal(38,10)",
              "decimal(5,5)", "decimal(3,0)", "varchar", "varchar(3)", "char(5)", "date", "time(0)", "time(3)", "time(6)",
              "timestamp(0)", "timestamp(3)", "timestamp(6)", "json", "interval day to second", "interval year to month"]


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def day(pick):
    if pick.random() < 0.3:
        return pick.choice(SWITCHES)
    return f"{pick.choice([1, 1582, 1899, 1969, 1970, 1999, 2023, 2024, 2024, 2050]):04}-{pick.randint(1, 12):02}-{pick.randint(1, 28):02}"


def clock(pick):
    text = f"{pick.randint(0, 23):02}:{pick.choice([0, 15, 29, 30, 59]):02}:{pick.choice([0, 1, 59]):02}"
    return text + pick.choice(["", "", ".5", ".123", ".999999", ".123456789"])


def number(pick, digits):
    value = pick.randint(0, 10 ** pick.randint(1, digits) - 1)
    return pick.choice([value, -value, pick.choice([0, 1, -1, 2, 7, 10])])


def value(of, pick, zone):
    """A random literal of a type, as text."""
    if pick.random() < 0.04:
        return f"CAST(NULL AS {of})"
    if of in ("tinyint", "smallint", "integer", "bigint"):
        most = {"tinyint": 127, "smallint": 32767, "integer": 2147483647, "bigint": 9223372036854775807}[of]
        drawn = pick.choice([pick.randint(-most - 1, most), pick.randint(-20, 20), pick.randint(0, 5), most, -most - 1])
        return f"CAST('{drawn}' AS {of})"
    if of in ("real", "double"):
        drawn = pick.choice([pick.uniform(-10, 10), pick.uniform(-1e6, 1e6), 10.0 ** pick.randint(-30, 30), 0.0, -0.0, 0.5,
                             float(pick.randint(-50, 50)), 2.5, -2.5, float("nan"), float("inf"), float("-inf")])
        text = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(str(drawn), repr(drawn))
        return f"CAST('{text}' AS {of})"
    if of.startswith("decimal"):
        whole, scale = of[8:-1].split(",")
        scale = int(scale)
        drawn = number(pick, int(whole))
        sign, digits = ("-" if drawn < 0 else ""), str(abs(drawn)).rjust(scale + 1, "0")
        text = digits if scale == 0 else digits[:-scale] + "." + digits[-scale:]
        return f"CAST('{sign}{text}' AS {of})"
    if of in ("varchar", "char"):
        return f"CAST({quoted(pick.choice(WORDS))} AS {'varchar' if of == 'varchar' else 'char(8)'})"
    if of == "varbinary":
        return "X'" + "".join(pick.choice("0123456789ABCDEF") for _ in range(2 * pick.choice([0, 1, 2, 4, 8, 9]))) + "'"
    if of == "date":
        return f"DATE '{day(pick)}'"
    if of.startswith("timestamp"):
        digits = of[10] if "(" in of else "3"
        shift = f" {zone}" if "zone" in of else ""
        return f"CAST('{day(pick)} {clock(pick)}{shift}' AS timestamp({digits}){' with time zone' if shift else ''})"
    if of.startswith("time"):
        return f"CAST('{clock(pick)}' AS {of})"
    if of == "interval day to second":
        return f"INTERVAL '{pick.randint(-400, 400)} {clock(pick)[:8]}' DAY TO SECOND"
    if of == "interval year to month":
        return f"INTERVAL '{pick.randint(-400, 400)}' MONTH"
    if of == "boolean":
        return pick.choice(["true", "false"])
    if of == "json":
        return f"json_parse({quoted(pick.choice([word for word in WORDS if word in ('0', '-1', '12.5', 'true', '{}', 'null', '[1,2,3]') or word[:1] == '{']))})"
    if of == "uuid":
        return pick.choice(POOLS["uuid"])
    if of.startswith("array("):
        inner = ", ".join(value(of[6:-1], pick, zone) for _ in range(pick.choice([0, 1, 2, 3, 5])))
        return f"CAST(ARRAY[{inner}] AS {of})"
    if of.startswith("map("):
        key, inner = split(of[4:-1])
        keys = list(dict.fromkeys(value(key, pick, zone) for _ in range(pick.choice([0, 1, 2, 3]))))
        keys = [one for one in keys if "NULL" not in one]
        values = ", ".join(value(inner, pick, zone) for _ in keys)
        return f"CAST(MAP(ARRAY[{', '.join(keys)}], ARRAY[{values}]) AS {of})"
    return None


GENERIC = ["integer", "varchar", "double", "date", "bigint", "decimal(10,2)", "timestamp(3)"]


def concrete(of, bound, pick):
    """The type an argument of a signature gets in one statement."""
    low = of.strip().lower()
    if low.startswith("array("):
        return f"array({concrete(of.strip()[6:-1], bound, pick)})"
    if low.startswith("map("):
        key, inner = split(of.strip()[4:-1])
        bound.setdefault(key, pick.choice(["integer", "varchar", "date"]))
        return f"map({bound[key] if len(key) == 1 else concrete(key, bound, pick)}, {concrete(inner, bound, pick)})"
    if len(low) == 1:
        return bound.setdefault(of.strip(), pick.choice(GENERIC))
    if low.startswith("decimal"):
        return pick.choice(["decimal(5,2)", "decimal(10,0)", "decimal(18,9)", "decimal(30,4)"])
    if low.startswith("varchar"):
        return "varchar"
    if low.startswith("char"):
        return "char"
    if low.startswith("timestamp"):
        return f"timestamp({pick.choice([0, 3, 6])}){' with time zone' if 'zone' in low else ''}"
    if low.startswith("time"):
        return None if "zone" in low else f"time({pick.choice([0, 3, 6])})"
    known = ["boolean", "tinyint", "smallint", "integer", "bigint", "real", "double", "varbinary", "date", "json", "uuid",
             "interval day to second", "interval year to month"]
    return low if low in known else None


SPECIAL = {"joniregexp": PATTERNS, "re2jregexp": PATTERNS, "jsonpath": PATHS}
BY_PLACE = {("date_format", 1): FORMATS, ("date_parse", 1): FORMATS, ("format_datetime", 1): JODA, ("parse_datetime", 1): JODA,
            ("date_add", 0): UNITS, ("date_diff", 0): UNITS, ("date_trunc", 0): UNITS, ("at_timezone", 1): ZONES,
            ("with_timezone", 1): ZONES, ("json_extract_scalar", 1): PATHS, ("json_extract", 1): PATHS,
            ("json_size", 1): PATHS, ("like", 1): PATTERNS, ("from_unixtime", 1): ZONES}


def column(name, place, of, bound, pick):
    """What draws the values of an argument."""
    words = SPECIAL.get(of.lower()) or BY_PLACE.get((name, place))
    if words:
        return lambda: quoted(pick.choice(words))
    if of.lower() == "codepoints":
        return lambda: "'ab'"
    kind = concrete(of, bound, pick)
    zone = pick.choice(ZONES)
    return None if kind is None or "None" in kind else lambda: value(kind, pick, zone)


def statement(expression, columns, rows):
    names = [f"c{index}" for index in range(len(columns))]
    lines = ", ".join("(" + ", ".join(str(draw()) for draw in columns) + f", {row})" for row in range(rows))
    text = f"SELECT n, {expression.format(*names)} FROM (VALUES {lines}) t({', '.join(names + ['n'])}) ORDER BY n"
    return None if "None" in text.replace("'None'", "") else text


def calls(options, pick):
    for name, result, arguments, kind, *_ in answer(options.server, "SHOW FUNCTIONS")["rows"]:
        if kind != "scalar" or PASSED.search(name) or SKETCH.search(arguments) or SKETCH.search(result) or not arguments:
            continue
        for _ in range(options.each):
            bound = {}
            columns = [column(name, place, of, bound, pick) for place, of in enumerate(split(arguments))]
            if None in columns:
                break
            yield "function", f"try({name}(" + ", ".join(f"{{{index}}}" for index in range(len(columns))) + "))", columns


def operators(options, pick):
    numbers = ["tinyint", "integer", "bigint", "double", "real", "decimal(5,2)", "decimal(18,9)", "decimal(30,4)", "decimal(10,0)"]
    times = ["date", "timestamp(3)", "timestamp(6)", "timestamp(3) with time zone", "time(3)"]
    spans = ["interval day to second", "interval year to month"]

    def of(kind):
        zone = pick.choice(ZONES)
        return lambda: value(kind, pick, zone)

    for _ in range(options.each * 40):
        sign = pick.choice(["+", "-", "*", "/", "%"])
        yield "operator", f"try({{0}} {sign} {{1}})", [of(pick.choice(numbers)), of(pick.choice(numbers))]
        yield "cast", f"try(CAST({{0}} AS {pick.choice(CAST_TYPES)}))", [of(pick.choice(numbers + ["varchar", "boolean", "varchar", "json"] + times))]
    for _ in range(options.each * 15):
        left, right = pick.choice(numbers), pick.choice(numbers)
        sign = pick.choice(["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM"])
        yield "operator", f"{{0}} {sign} {{1}}", [of(left), of(right)]
        yield "datetime", f"try({{0}} {pick.choice('+-')} {{1}})", [of(pick.choice(times)), of(pick.choice(spans))]
        kind = pick.choice(times)
        yield "datetime", "try({0} - {1})", [of(kind), of(kind)]
        yield "datetime", f"try({{0}} AT TIME ZONE '{pick.choice(ZONES)}')", [of(pick.choice(times[1:4]))]
        yield "datetime", f"try(CAST({{0}} AT TIME ZONE '{pick.choice(ZONES)}' AS {pick.choice(['date', 'time', 'timestamp(3)', 'varchar'])}))", [of("timestamp(3) with time zone")]
        field = pick.choice(["year", "month", "day", "week", "quarter", "dow", "doy", "yow", "hour", "minute", "second"])
        yield "datetime", f"extract({field} FROM {{0}})", [of(pick.choice(times[1:4] if field in ("hour", "minute", "second") else times[:4]))]
        inner = pick.choice(["integer", "varchar", "double"])
        yield "array", "try({0}[{1}])", [of(f"array({inner})"), of("tinyint")]
        yield "array", "try(element_at({0}, {1}))", [of("map(integer, varchar)"), of("integer")]
        yield "text", "{0} LIKE {1}", [of("varchar"), lambda: quoted(pick.choice(["%", "a%", "%l%", "_", "", "%_", "h_l%", "%\\%"]))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default="http://127.0.0.1:8880")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--each", type=int, default=2)
    options = parser.parse_args()
    pick = random.Random(options.seed)
    for source in (calls, operators):
        for family, expression, columns in source(options, pick):
            made = statement(expression, columns, options.rows)
            if made:
                print(f"{family}\t{made}")


if __name__ == "__main__":
    main()
