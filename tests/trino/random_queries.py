#!/usr/bin/env python3
"""Writes random statements beyond plain calls: `family<TAB>statement`, one a line.

    random_queries.py [--seed N] [--count N] > QUERIES.tsv

Families: casts between all types, operators, conditionals, date arithmetic across zones and DST, JSON paths, regular
expressions, decimals, arrays and maps with lambdas, aggregates, windows, grouping sets, UNNEST, set operations.
"""
import argparse
import random

from random_calls import POOLS

TYPES = ["boolean", "tinyint", "smallint", "integer", "bigint", "real", "double", "decimal(10,2)", "decimal(38,10)",
         "decimal(5,5)", "decimal(3,0)", "varchar", "varchar(3)", "char(5)", "varbinary", "date", "time(0)", "time(3)",
         "time(6)", "timestamp(0)", "timestamp(3)", "timestamp(6)", "timestamp(3) with time zone",
         "timestamp(6) with time zone", "json", "uuid", "interval day to second", "interval year to month",
         "array(integer)", "array(varchar)", "map(varchar,integer)", "row(a integer,b varchar)"]
NESTED = ["ARRAY[1,2,NULL]", "ARRAY['1','x']", "ARRAY[]", "ARRAY[1.5,2]", "MAP(ARRAY['a','b'],ARRAY[1,2])",
          "MAP(ARRAY[1],ARRAY['x'])", "ROW(1,'x')", "ROW(NULL,2.5)", "ARRAY[ROW(1,'a')]", "ARRAY[ARRAY[1],ARRAY[]]",
          "ARRAY[DATE '2024-01-01']", "MAP()", "JSON '[1,2]'", "JSON '{\"a\":1}'", "JSON '[\"x\",null]'", "JSON 'true'"]
TEXTS = ["'1'", "'1.5'", "' 7 '", "'abc'", "''", "'true'", "'F'", "'1e3'", "'NaN'", "'-Infinity'", "'2024-02-30'",
         "'2024-2-9'", "'2024-02-29 10:20:30.123456'", "'10:20:30'", "'2024-02-29 10:20:30 Europe/Paris'", "'+5'",
         "'99999999999'", "'0x1F'", "'12:61'", "'[1,2]'", "'1 00:00:00.000'", "'-0'", "'.5'", "'5.'", "'1_000'"]
UNITS = ["millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year"]
ZONES = ["America/New_York", "Europe/London", "Asia/Kolkata", "Australia/Lord_Howe", "UTC", "+05:45", "Pacific/Apia",
         "America/Sao_Paulo", "Africa/Casablanca", "-03:30", "Asia/Tehran", "Europe/Berlin"]
COMPARE = ["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"]
ROWS = ("(VALUES (1, 'a', 1.50, 2.5e0, DATE '2024-01-01', true), (2, 'b', 2.25, -1e0, DATE '2024-01-01', false), "
        "(3, 'a', NULL, 0e0, DATE '2024-02-10', NULL), (NULL, 'c', -7.10, NULL, NULL, true), "
        "(5, NULL, 0.05, 1e3, DATE '2023-12-31', false), (2, 'b', 9.99, 4.25e0, DATE '2024-02-10', true)) "
        "t(i, s, d, x, dt, f)")


def scalar(pick, kinds=None):
    kind = pick.choice(kinds or [kind for kind in POOLS if kind not in ("timetz", "regexp", "jsonpath", "codepoints")])
    return pick.choice(POOLS[kind])


def moment(pick, zoned=None):
    day = f"{pick.choice([1899, 1950, 1969, 1970, 2000, 2011, 2023, 2024, 2024, 2024, 2050])}-{pick.randint(1, 12):02}-{pick.randint(1, 28):02}"
    if pick.random() < 0.4:
        day = pick.choice(["2024-03-10", "2024-11-03", "2024-03-31", "2024-10-27", "2024-02-29", "2024-12-31", "2011-12-30"])
    clock = f"{pick.randint(0, 23):02}:{pick.choice([0, 15, 30, 59]):02}:{pick.choice([0, 1, 59]):02}"
    clock += pick.choice(["", "", ".5", ".123", ".999999"])
    zoned = pick.random() < 0.5 if zoned is None else zoned
    if zoned:
        return f"TIMESTAMP '{day} {clock} {pick.choice(ZONES)}'"
    return pick.choice([f"TIMESTAMP '{day} {clock}'", f"TIMESTAMP '{day} {clock}'", f"DATE '{day}'"])


def casts(pick):
    value = pick.choice([scalar(pick), scalar(pick), pick.choice(NESTED), pick.choice(TEXTS), pick.choice(TEXTS)])
    verb = "TRY_CAST" if pick.random() < 0.2 else "CAST"
    if pick.random() < 0.2:
        return f"SELECT CAST({verb}({value} AS {pick.choice(TYPES)}) AS varchar)"
    return f"SELECT {verb}({value} AS {pick.choice(TYPES)})"


def operators(pick):
    a, b = scalar(pick), scalar(pick)
    numbers = ["tinyint", "smallint", "integer", "bigint", "real", "double", "decimal"]
    if pick.random() < 0.6:
        a, b = scalar(pick, numbers), scalar(pick, numbers)
    elif pick.random() < 0.5:
        kind = pick.choice(["varchar", "date", "timestamp", "timestamptz", "json", "varbinary", "char", "interval day to second"])
        a, b = scalar(pick, [kind]), scalar(pick, [kind, "unknown", kind])
    if pick.random() < 0.6:
        return f"SELECT {a} {pick.choice(['+', '-', '*', '/', '%'])} {b}"
    return f"SELECT {a} {pick.choice(COMPARE)} {b}"


def conditionals(pick):
    a, b, c = (scalar(pick, ["integer", "bigint", "decimal", "double", "unknown"]) for _ in range(3))
    if pick.random() < 0.4:
        a, b, c = scalar(pick), scalar(pick), scalar(pick)
    return pick.choice([
        f"SELECT coalesce({a}, {b}, {c})", f"SELECT nullif({a}, {b})", f"SELECT if({a} > {b}, {b}, {c})",
        f"SELECT CASE {a} WHEN {b} THEN {c} WHEN {c} THEN {a} END", f"SELECT greatest({a}, {b}, {c})",
        f"SELECT least({a}, {b})", f"SELECT {a} BETWEEN {b} AND {c}", f"SELECT {a} IN ({b}, {c}, NULL)",
        f"SELECT {a} NOT IN ({b}, {c})", f"SELECT try({a} / {b})", f"SELECT typeof({a}), typeof({b} + {c})",
        f"SELECT CASE WHEN {a} IS NULL THEN {b} ELSE {c} END", f"SELECT {a} > ALL (VALUES {b}, {c})",
        f"SELECT try(CAST({a} AS {pick.choice(TYPES[:10])}))", f"SELECT {a} = ANY (VALUES {b}, {c})"])


def dates(pick):
    a, b, unit = moment(pick), moment(pick), pick.choice(UNITS)
    zone = pick.choice(ZONES)
    span = pick.choice([f"INTERVAL '{pick.randint(-40, 40)}' {pick.choice(['SECOND', 'MINUTE', 'HOUR', 'DAY'])}",
                        f"INTERVAL '{pick.randint(-30, 30)}' {pick.choice(['MONTH', 'YEAR'])}",
                        "INTERVAL '1 02:03:04.567' DAY TO SECOND", "INTERVAL '1-2' YEAR TO MONTH"])
    same = moment(pick, "TIMESTAMP" in a and any(zone in a for zone in ZONES))
    field = pick.choice(["year", "quarter", "month", "week", "day", "day_of_week", "dow", "doy", "yow", "hour", "minute",
                         "second", "timezone_hour", "timezone_minute"])
    name = pick.choice(["year", "quarter", "month", "week", "day", "day_of_week", "day_of_year", "year_of_week", "hour",
                        "minute", "second", "millisecond", "last_day_of_month", "to_unixtime", "to_iso8601", "date",
                        "timezone", "timezone_hour"])
    code = "".join(pick.choice(["%Y", "%y", "%m", "%d", "%H", "%i", "%s", "%f", "%a", "%W", "%b", "%M", "%j", "%e", "%k",
                                "%l", "%p", "%h", "%T", "%r", "%v", "%x", "%c", "%%", "-", " ", ":"]) for _ in range(5))
    joda = "".join(pick.choice(["yyyy", "yy", "MM", "M", "MMM", "MMMM", "dd", "d", "HH", "H", "hh", "h", "mm", "ss", "SSS",
                                "a", "E", "EEEE", "D", "w", "x", "e", "ZZ", "Z", "'T'", "-", " ", "/"]) for _ in range(5))
    return pick.choice([
        f"SELECT date_add('{unit}', {pick.randint(-500, 500)}, {a})", f"SELECT date_diff('{unit}', {a}, {same})",
        f"SELECT date_trunc('{unit}', {a})", f"SELECT {a} + {span}", f"SELECT {a} - {span}", f"SELECT {a} - {same}",
        f"SELECT {a} AT TIME ZONE '{zone}'", f"SELECT with_timezone({moment(pick, False)}, '{zone}')",
        f"SELECT EXTRACT({field} FROM {a})", f"SELECT {name}({a})", f"SELECT date_format({a}, '{code}')",
        f"SELECT format_datetime({a}, '{joda}')", f"SELECT CAST({a} AS varchar)", f"SELECT {a} < {b}",
        f"SELECT CAST({a} AS timestamp(3) with time zone)", f"SELECT CAST({a} AS date), CAST({b} AS time)",
        f"SELECT date_parse(date_format({a}, '{code}'), '{code}')", f"SELECT at_timezone({moment(pick, True)}, '{zone}')",
        f"SELECT sequence({a}, {a} + INTERVAL '3' DAY, INTERVAL '{pick.choice([1, 2])}' DAY)",
        f"SELECT from_unixtime({pick.randint(-3000000000, 3000000000)}, '{zone}')",
        f"SELECT date_add('{unit}', {pick.randint(-30, 30)}, {moment(pick, True)})",
        f"SELECT human_readable_seconds({pick.choice([0, 59.6, 61, 3600, 86400 * 9, 1e6])})"])


def jsons(pick):
    text = pick.choice(['{"a":1,"b":[1,2,{"c":"x"}],"d e":null,"f":{"g":1.50,"h":true}}', '[1,"two",null,[3,4],{"k":"v"}]',
                        '{"a":{"a":{"a":[]}}}', '"str"', '12.0', 'null', '{"a":"1","a":2}', '{bad', '', '[]',
                        '{"n":1e10,"m":-0.0,"big":123456789012345678901234567890}', '{"u":"\\u00e9\\n"}'])
    path = "$" + "".join(pick.choice([".a", ".b", "[0]", "[1]", "[-1]", "[*]", '["d e"]', ".f", ".g", ".k", ".c", "[2]", "..c"])
                         for _ in range(pick.choice([0, 1, 1, 2, 2, 3])))
    lax = pick.choice(["lax ", "strict ", ""]) + path.replace("..c", ".c") + pick.choice(["", "", ".size()", ".type()", ".double()"])
    of = pick.choice(["integer", "varchar", "double", "boolean", "array(integer)", "map(varchar,json)", "row(a integer)"])
    return pick.choice([
        f"SELECT json_extract('{text}', '{path}')", f"SELECT json_extract_scalar('{text}', '{path}')",
        f"SELECT json_size('{text}', '{path}')", f"SELECT json_parse('{text}')", f"SELECT json_array_length('{text}')",
        f"SELECT json_value('{text}', '{lax}')", f"SELECT json_query('{text}', '{lax}')",
        f"SELECT json_exists('{text}', '{lax}')", f"SELECT json_query('{text}', '{lax}' WITH ARRAY WRAPPER)",
        f"SELECT json_array_get('{text}', {pick.randint(-3, 4)})", f"SELECT is_json_scalar('{text}')",
        f"SELECT CAST(json_extract('{text}', '{path}') AS {of})", f"SELECT CAST(json_parse('{text}') AS {of})",
        f"SELECT json_value('{text}', '{lax}' RETURNING {pick.choice(['integer', 'double', 'varchar(3)'])} DEFAULT NULL ON ERROR)",
        f"SELECT CAST({pick.choice(NESTED)} AS json)", f"SELECT json_format(CAST({scalar(pick)} AS json))",
        f"SELECT json_array_contains('{text}', {pick.choice(['1', 'true', '2.0', chr(39) + 'two' + chr(39)])})"])


def regexes(pick):
    text = pick.choice(["hello world", "a1b22c333", "2024-01-15", "", "foo.bar@baz.com", "AbCdE", "naïve café", "x=1;y=2", "aaa"])
    pattern = pick.choice(["l+", r"\d+", r"(\w)(\d+)", r"(\d{4})-(\d\d)", "[aeiou]", "^.", ".$", r"\b\w", "(?i)abc", "a*", "",
                           r"(\w+)@(\w+)\.com", "(a)|(b)", r"[^\s]+", "(?<year>\\d+)", r"\p{Lu}", "x(?=y)", "(", r"\.", "é"])
    return pick.choice([
        f"SELECT regexp_like('{text}', '{pattern}')", f"SELECT regexp_extract('{text}', '{pattern}')",
        f"SELECT regexp_extract('{text}', '{pattern}', {pick.randint(0, 2)})", f"SELECT regexp_extract_all('{text}', '{pattern}')",
        f"SELECT regexp_replace('{text}', '{pattern}')", f"SELECT regexp_replace('{text}', '{pattern}', '<$0>')",
        f"SELECT regexp_replace('{text}', '{pattern}', '$1')", f"SELECT regexp_split('{text}', '{pattern}')",
        f"SELECT regexp_count('{text}', '{pattern}')", f"SELECT regexp_position('{text}', '{pattern}')",
        f"SELECT regexp_replace('{text}', '{pattern}', x -> upper(x[1]))",
        f"SELECT regexp_extract_all('{text}', '{pattern}', 1)",
        f"SELECT '{text}' LIKE '{pick.choice(['%a%', '_e%', 'a_b', '%', '', '2024-__-%', 'A%'])}'",
        f"SELECT '{text}' LIKE '{pick.choice(['%x%%', 'x_', 'hex%'])}' ESCAPE 'x'"])


def decimals(pick):
    def number():
        whole = pick.randint(0, 10 ** pick.choice([0, 1, 3, 9, 17, 25]))
        scale = pick.choice([0, 1, 2, 5, 10])
        sign = pick.choice(["", "-"])
        return f"{sign}{whole}." + "".join(pick.choice("0123456789") for _ in range(scale)) if scale else f"DECIMAL '{sign}{whole}'"
    a, b = number(), number()
    return pick.choice([
        f"SELECT {a} {op} {b}" for op in "+-*/%"] + [
        f"SELECT round({a}, {pick.randint(-3, 6)})", f"SELECT truncate({a})", f"SELECT ceil({a}), floor({b})", f"SELECT abs({a})",
        f"SELECT CAST({a} AS decimal({pick.randint(6, 38)},{pick.randint(0, 6)}))", f"SELECT CAST({a} AS double)", f"SELECT CAST({a} AS bigint)",
        f"SELECT sum(v), avg(v), min(v), max(v) FROM (VALUES {a}, {b}, NULL) t(v)", f"SELECT {a} < {b}, {a} = {a}",
        f"SELECT CAST({a} AS varchar)", f"SELECT mod({a}, {b})", f"SELECT greatest({a}, {b})", f"SELECT sign({a}), power({b}, 2)"])


def lambdas(pick):
    kind = pick.choice(["integer", "varchar", "double", "decimal", "date", "timestamp"])
    values = [pick.choice(POOLS[kind] + ["NULL"]) for _ in range(pick.choice([0, 1, 2, 3, 4]))]
    array = f"ARRAY[{', '.join(values)}]"
    other = f"ARRAY[{', '.join(pick.choice(POOLS[kind]) for _ in range(2))}]"
    numbers = f"ARRAY[{', '.join(str(pick.randint(-5, 9)) for _ in range(pick.randint(1, 5)))}]"
    mapping = f"MAP(ARRAY['x','y','z'], ARRAY[{pick.randint(0, 5)}, NULL, {pick.randint(0, 5)}])"
    return pick.choice([
        f"SELECT transform({array}, v -> v IS NULL)", f"SELECT filter({array}, v -> v IS NOT NULL)", f"SELECT array_distinct({array})",
        f"SELECT array_sort({array})", f"SELECT array_union({array}, {other})", f"SELECT array_intersect({array}, {other})",
        f"SELECT array_except({array}, {other})", f"SELECT arrays_overlap({array}, {other})", f"SELECT {array} || {other}",
        f"SELECT array_position({array}, {pick.choice(POOLS[kind])})", f"SELECT contains({array}, {pick.choice(POOLS[kind])})",
        f"SELECT array_remove({array}, {pick.choice(POOLS[kind])})", f"SELECT cardinality({array}), array_max({array}), array_min({array})",
        f"SELECT reduce({numbers}, 0, (s, v) -> s + v, s -> s * 2)", f"SELECT transform({numbers}, v -> v * 1.5)",
        f"SELECT array_sort({numbers}, (a, b) -> IF(a < b, 1, IF(a = b, 0, -1)))", f"SELECT any_match({numbers}, v -> v > 3)",
        f"SELECT all_match({array}, v -> v IS NULL), none_match({numbers}, v -> v = 1)", f"SELECT zip({numbers}, {array})",
        f"SELECT zip_with({numbers}, {numbers}, (a, b) -> a * 10 + b)", f"SELECT slice({array}, {pick.randint(-3, 3)}, 2)",
        f"SELECT {numbers}[{pick.randint(-1, 4)}]", f"SELECT element_at({array}, {pick.randint(-3, 3)})", f"SELECT ngrams({array}, 2)",
        f"SELECT array_join({array}, ',', 'null')", f"SELECT flatten(ARRAY[{array}, {other}])", f"SELECT combinations({numbers}, 2)",
        f"SELECT map_filter({mapping}, (k, v) -> v > 1)", f"SELECT transform_values({mapping}, (k, v) -> k || CAST(v AS varchar))",
        f"SELECT transform_keys({mapping}, (k, v) -> upper(k))", f"SELECT map_keys({mapping}), map_values({mapping})",
        f"SELECT map_entries({mapping})", f"SELECT map_concat({mapping}, MAP(ARRAY['z','w'], ARRAY[7, 8]))",
        f"SELECT map_zip_with({mapping}, {mapping}, (k, a, b) -> a + b)", f"SELECT {mapping}['{pick.choice('xyzq')}']",
        f"SELECT element_at({mapping}, 'q')", f"SELECT MAP({other}, {numbers})", f"SELECT repeat({pick.choice(POOLS[kind])}, 2)",
        f"SELECT trim_array({array}, 1)", f"SELECT array_sum({numbers})", f"SELECT array_average({numbers})" if False else f"SELECT reverse({array})",
        f"SELECT {array} = {other}", f"SELECT {array} < {other}", f"SELECT sequence({pick.randint(-3, 3)}, {pick.randint(-3, 6)}, {pick.choice([1, 2, -1])})",
        f"SELECT CAST({array} AS json)", f"SELECT CAST({mapping} AS json)", f"SELECT typeof({array}), typeof({mapping})"])


AGGREGATES = ["count(*)", "count({c})", "sum({n})", "avg({n})", "min({c})", "max({c})", "array_agg({c} ORDER BY i, s)",
              "count(DISTINCT {c})", "sum(DISTINCT i)", "max_by(s, {n})", "min_by({c}, i)", "stddev({n})", "var_pop({n})",
              "bool_and(f)", "bool_or(f)", "count_if(f)", "approx_distinct({c})", "arbitrary(1)", "checksum({c})",
              "listagg(s, ',') WITHIN GROUP (ORDER BY i, s)", "count(*) FILTER (WHERE i > 1)", "sum({n}) FILTER (WHERE f)",
              "corr(i, x)", "covar_pop(x, i)", "regr_slope(x, i)", "geometric_mean(i)", "skewness(x)", "kurtosis({n})",
              "histogram(s)", "map_agg(s, i)", "bitwise_and_agg(i)", "max(i, 2)", "min({c}, 2)", "approx_percentile(i, 0.5)",
              "array_agg(DISTINCT s ORDER BY s)", "entropy(i)", "multimap_agg(f, s)", "any_value(7)", "every(f)"]


def aggregate(pick):
    return pick.choice(AGGREGATES).format(c=pick.choice(["i", "s", "d", "x", "dt", "f"]), n=pick.choice(["i", "d", "x"]))


def aggregates(pick):
    key = pick.choice(["s", "f", "dt", "i % 2", "s, f"])
    where = pick.choice(["", "", f" WHERE {pick.choice(['i > 1', 'false', 's IS NULL', 'x < 0'])}"])
    calls = ", ".join(aggregate(pick) for _ in range(pick.choice([1, 2])))
    return pick.choice([
        f"SELECT {calls} FROM {ROWS}{where}", f"SELECT {key}, {calls} FROM {ROWS}{where} GROUP BY {key}",
        f"SELECT s, f, {calls}, grouping(s, f) FROM {ROWS}{where} GROUP BY {pick.choice(['CUBE', 'ROLLUP'])} (s, f)",
        f"SELECT s, {calls} FROM {ROWS} GROUP BY GROUPING SETS ((s), ()) HAVING count(*) > 1",
        f"SELECT {key}, {calls} FROM {ROWS} GROUP BY {key} ORDER BY 1"])


def windows(pick):
    call = pick.choice(["row_number()", "rank()", "dense_rank()", "percent_rank()", "cume_dist()", "ntile(2)", "lag(i)", "lead(s, 2)",
                        "lag(d, 1, 0.5)", "first_value(s)", "last_value(i)", "nth_value(x, 2)", "sum(i)", "avg(d)", "min(s)", "max(dt)",
                        "count(*)", "array_agg(i)", "lag(i) IGNORE NULLS", "first_value(i) IGNORE NULLS", "count(DISTINCT s)",
                        "max_by(s, i)", "bool_or(f)", "stddev(x)", "lead(x, i)", "sum(x)"])
    frame = pick.choice(["", "", " ROWS BETWEEN 1 PRECEDING AND CURRENT ROW", " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
                         " RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW", " GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
                         " ROWS BETWEEN 1 FOLLOWING AND 2 FOLLOWING", " RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING", " ROWS 2 PRECEDING"])
    order = pick.choice(["i, d", "i DESC, d", "d", "x NULLS FIRST", "dt, d", "s DESC, d", "i"])
    order = "i" if frame.startswith(" RANGE BETWEEN 1") else order
    part = pick.choice(["", "PARTITION BY f ", "PARTITION BY s "])
    return f"SELECT i, s, d, {call} OVER ({part}ORDER BY {order}{frame}) FROM {ROWS}"


def relations(pick):
    a = ", ".join(scalar(pick, ["integer", "bigint", "decimal", "unknown"]) for _ in range(pick.randint(1, 4)))
    b = ", ".join(scalar(pick, ["integer", "bigint", "double", "unknown"]) for _ in range(pick.randint(1, 4)))
    array = f"ARRAY[{pick.choice(['1,2,3', '', 'NULL', chr(39) + 'a' + chr(39) + ',NULL'])}]"
    return pick.choice([
        f"SELECT * FROM (VALUES {a}) t(v) {op} SELECT * FROM (VALUES {b}) u(v)" for op in
        ["UNION", "UNION ALL", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"]] + [
        f"SELECT * FROM UNNEST({array}) WITH ORDINALITY", f"SELECT * FROM UNNEST({array}, ARRAY[9,8])",
        "SELECT k, v FROM UNNEST(MAP(ARRAY['a','b'], ARRAY[1,NULL])) t(k, v)", "SELECT * FROM UNNEST(ARRAY[ROW(1,'x'),ROW(2,NULL)]) t(a, b)",
        f"SELECT i, e FROM {ROWS} CROSS JOIN UNNEST({array}) u(e)", f"SELECT i, e FROM {ROWS} LEFT JOIN UNNEST({array}) u(e) ON true",
        f"SELECT v FROM (VALUES {a}) t(v) ORDER BY v {pick.choice(['', 'DESC', 'NULLS FIRST', 'DESC NULLS LAST'])}",
        f"SELECT DISTINCT {pick.choice(['s', 'f', 's, f', 'dt'])} FROM {ROWS}", f"SELECT i FROM {ROWS} WHERE i IN (VALUES {a})",
        f"SELECT i, (SELECT max(v) FROM (VALUES {a}) u(v)) FROM {ROWS}", f"SELECT i FROM {ROWS} WHERE EXISTS (SELECT 1 FROM (VALUES {a}) u(v) WHERE v = i)",
        f"SELECT t.i, u.v FROM {ROWS} {pick.choice(['JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN'])} (VALUES {b}) u(v) ON t.i = u.v",
        f"SELECT count(*) FROM (VALUES {a}) t(v), (VALUES {b}) u(w)", f"VALUES {a}", f"SELECT s, i FROM {ROWS} ORDER BY i DESC, s LIMIT {pick.randint(0, 4)}",
        f"SELECT s FROM {ROWS} ORDER BY s OFFSET {pick.randint(0, 3)} FETCH FIRST 2 ROWS WITH TIES"])


def errors(pick):
    value = scalar(pick)
    return pick.choice([
        f"SELECT abs({value})", f"SELECT length({value})", f"SELECT {value} || {scalar(pick)}", f"SELECT NOT {value}", f"SELECT -{value}",
        f"SELECT {value} LIKE 'a%'", f"SELECT sum({value})", f"SELECT {value}[1]", f"SELECT ({value}).a", f"SELECT upper({value}, {value})",
        f"SELECT CASE WHEN {value} THEN 1 END", f"SELECT * FROM UNNEST({value})", f"SELECT i FROM {ROWS} GROUP BY s",
        f"SELECT nope FROM {ROWS}", f"SELECT i FROM {ROWS} WHERE {value}", f"SELECT {value} IN ({scalar(pick)})", f"SELECT t.* FROM {ROWS} ORDER BY 9",
        f"SELECT ARRAY[{value}, {scalar(pick)}]", f"SELECT if({value}, 1, 'a')", f"SELECT coalesce({value}, {scalar(pick)})", f"SELECT i FROM {ROWS} LIMIT -1",
        f"SELECT {value} AT TIME ZONE 'UTC'", f"SELECT EXTRACT(YEAR FROM {value})", f"SELECT max({value}) OVER (ORDER BY nope)", f"SELECT row_number()",
        f"SELECT sum(sum(i)) FROM {ROWS}", f"SELECT {value} UNION SELECT {scalar(pick)}", f"SELECT date_trunc({value}, DATE '2024-01-01')",
        f"SELECT substr({value}, 1)", f"SELECT concat({value}, {scalar(pick)})", f"SELECT round({value}, 1)", f"SELECT CAST({value} AS nope)"])


FAMILIES = {"cast": casts, "operator": operators, "conditional": conditionals, "datetime": dates, "json": jsons, "regexp": regexes,
            "decimal": decimals, "array": lambdas, "aggregate": aggregates, "window": windows, "relation": relations, "errors": errors}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--only", default=",".join(FAMILIES))
    options = parser.parse_args()
    pick, made = random.Random(options.seed), set()
    names = options.only.split(",")
    for at in range(options.count):
        family = names[at % len(names)]
        statement = FAMILIES[family](pick)
        if statement not in made:
            made.add(statement)
            print(f"{family}\t{statement}")


if __name__ == "__main__":
    main()
