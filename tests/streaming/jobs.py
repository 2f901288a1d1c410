"""Random event tables, and random queries of streams over them.

Event times are a little out of order, never by more than the watermark waits for. The last event of each table comes long
after all others and closes every window but its own, which `Query.open` tells apart in the rows of the batch query.
"""

import datetime
import random
from collections import namedtuple

START = datetime.datetime(2024, 1, 1)
# Seconds that events last, their disorder, what the watermark waits, and the time of the last event.
SPAN, DISORDER, DELAY, CLOSE = 600, 12, 15, 6 * 3600
CLOSING = -1

EVENTS = [("id", "bigint"), ("k", "varchar"), ("g", "integer"), ("v", "bigint"), ("d", "decimal(12,3)"), ("x", "double"),
          ("f", "boolean"), ("s", "varchar"), ("day", "date"), ("ts", "timestamp(3)")]
LOOKED_UP = [("k", "varchar"), ("g", "integer"), ("name", "varchar"), ("w", "bigint")]
CHANGING = [("id", "bigint"), ("k", "varchar"), ("v", "bigint"), ("d", "decimal(12,3)"), ("x", "double")]
POOL = {"varchar": ["a", "b", "b", "c", "", None], "integer": [0, 1, 1, 2, -3, None], "boolean": [True, False, None],
        "bigint": [0, 1, 1, 2, 5, -7, 10**12 + 1, -(10**12), None], "double": [0.5, 1.5, -2.25, 3.0, 0.0, -0.0, None],
        "decimal(12,3)": ["1.500", "2.250", "-3.000", "0.001", "99999.999", None], "date": ["2024-01-01", "2024-02-29", None]}
TEXTS = ["", "a", "A", "ab", "é", "12", "x%y", 'say "a"', None]
NUMBERS = ("bigint", "integer", "double", "decimal(12,3)")

# What a FROM gives: its text, its columns, those that tell its rows apart, whether one of them is the event time "ts", and
# whether its rows change later.
Source = namedtuple("Source", "text columns key timed changing")
Column = namedtuple("Column", "text type")
# A query: its kind, its text, the columns of its result that say that a window or a row is the closing one's, and
# those that are its key and have no NULL.
Query = namedtuple("Query", "kind text open key", defaults=((),))


def stamp(seconds):
    return (START + datetime.timedelta(milliseconds=round(seconds * 1000))).isoformat(" ", "milliseconds")


def events(pick, first_id):
    """Rows of a table of events in the order they come."""
    count, rows = pick.choice([0, 12, 40, 40, 120, 120]), []
    for n in range(count):
        at = SPAN * n / max(count, 1)
        near = at - pick.choice([0, 0, pick.uniform(0, DISORDER)])
        border = round(near, pick.choice([0, -1]))
        near = border if at - DISORDER <= border <= at and pick.random() < 0.5 else near
        row = {name: pick.choice(TEXTS if name == "s" else POOL[kind]) for name, kind in EVENTS if name not in ("id", "ts")}
        rows.append({"id": first_id + n, **row, "ts": stamp(max(near, 0))})
    closing = dict.fromkeys(name for name, _ in EVENTS)
    return rows, {**closing, "id": CLOSING, "k": "closing", "ts": stamp(CLOSE)}


def looked_up(pick):
    """Rows with a key each, and rows whose keys repeat."""
    once = [{"k": k, "g": g, "name": f"n{n}", "w": pick.choice(POOL["bigint"])} for n, (k, g) in enumerate([("a", 1), ("b", 0), ("", 2), ("z", 7)])]
    more = [{"k": pick.choice(POOL["varchar"]), "g": pick.choice(POOL["integer"]), "name": f"m{n}", "w": n} for n in range(pick.choice([0, 5, 8]))]
    return once, more


def changes(pick):
    """Changes of a keyed table, as Debezium tells them."""
    held, told = {}, []
    for _ in range(pick.choice([5, 30, 80])):
        key = pick.randrange(12)
        after = {"id": key, **{name: pick.choice(POOL[kind]) for name, kind in CHANGING[1:]}}
        if key in held and pick.random() < 0.3:
            told.append({"before": held.pop(key), "after": None, "op": "d"})
        else:
            told.append({"before": held.get(key), "after": after, "op": "u" if key in held else "c"})
            held[key] = after
    return told


class Generator:
    def __init__(self, seed):
        self.pick = random.Random(seed)
        self.names, self.ctes = 0, []

    def chance(self, share):
        return self.pick.random() < share

    def name(self, prefix="t"):
        self.names += 1
        return f"{prefix}{self.names}"

    def named(self, text):
        """The name of a query of WITH: what has PARTITION BY in a window function takes no subquery."""
        name = self.name("c")
        self.ctes.append(f"{name} AS {text}")
        return name

    # Values.

    def literal(self, kind):
        return {"varchar": lambda: self.pick.choice(["'a'", "'b'", "''", "'x'"]), "integer": lambda: self.pick.choice("0123"),
                "bigint": lambda: self.pick.choice(["BIGINT '1'", "BIGINT '-7'", "BIGINT '1000000000001'"]),
                "double": lambda: self.pick.choice(["0.5E0", "-2.25E0"]), "boolean": lambda: self.pick.choice(["true", "false"]),
                "decimal(12,3)": lambda: "CAST(2.25 AS decimal(12,3))", "date": lambda: "DATE '2024-02-29'",
                "timestamp(3)": lambda: f"TIMESTAMP '{stamp(self.pick.choice([60, 300, 301.5]))}'"}[kind]()

    def column(self, kind, columns):
        fitting = [column.text for column in columns if column.type == kind]
        return self.pick.choice(fitting) if fitting else self.literal(kind)

    def value(self, kind, columns, depth=2):
        if depth <= 0 or self.chance(0.6):
            return self.column(kind, columns)
        one = lambda of=kind: self.value(of, columns, depth - 1)
        choices = [lambda: f"coalesce({one()}, {self.literal(kind)})", lambda: f"CASE WHEN {self.condition(columns, 0)} THEN {one()} END",
                   lambda: f"nullif({one()}, {self.literal(kind)})"]
        if kind in ("bigint", "integer", "double"):
            choices += [lambda: f"({one()} + {self.literal(kind) if kind == 'double' else 1})", lambda: f"(-({one()}))", lambda: f"abs({one()})"]
        if kind == "double":
            choices += [lambda: f"sqrt({one()})", lambda: f"({one()} * 0E0)"]
        if kind == "bigint":
            choices += [lambda: f"length({one('varchar')})", lambda: f"({one()} % 3)", lambda: f"CAST({one('integer')} AS bigint)"]
        if kind == "varchar":
            choices += [lambda: f"upper({one()})", lambda: f"concat({one()}, '-')", lambda: f"CAST({one('bigint')} AS varchar)", lambda: f"substr({one()}, 1, 1)"]
        if kind == "boolean":
            return self.condition(columns, depth - 1)
        return self.pick.choice(choices)()

    def condition(self, columns, depth=1):
        kind = self.pick.choice(["bigint", "integer", "varchar", "double", "decimal(12,3)"])
        left = lambda: self.value(kind, columns, depth)
        choices = [lambda: f"{left()} {self.pick.choice(['=', '<>', '<', '>='])} {self.literal(kind)}", lambda: f"{left()} IS {self.pick.choice(['', 'NOT '])}NULL",
                   lambda: f"{left()} IN ({self.literal(kind)}, {self.literal(kind)})", lambda: f"{left()} IS DISTINCT FROM {self.literal(kind)}",
                   lambda: f"{self.value('varchar', columns, depth)} LIKE '%a%'", lambda: f"{self.column('boolean', columns)}"]
        made = self.pick.choice(choices)()
        if depth > 0 and self.chance(0.3):
            made = f"({made} {self.pick.choice(['AND', 'OR'])} {self.condition(columns, depth - 1)})"
        return f"NOT ({made})" if self.chance(0.1) else made

    def aggregate(self, columns, key, changing=False):
        """An aggregate's text; over rows that change only those that can be taken back."""
        kind = self.pick.choice(["bigint", "bigint", "integer", "double", "decimal(12,3)", "varchar", "boolean"])
        arg = self.value(kind, columns)
        small = self.value(self.pick.choice(["integer", "double", "decimal(12,3)", "bigint"]), columns)
        choices = [lambda: "count(*)", lambda: f"count({arg})", lambda: f"count(DISTINCT {arg})", lambda: f"sum({small})", lambda: f"min({arg})",
                   lambda: f"max({arg})", lambda: f"avg({small})", lambda: f"sum(DISTINCT {self.column('integer', columns)})"]
        if not changing or self.chance(0.1):
            choices += [lambda: f"bool_or({self.condition(columns)})", lambda: f"bool_and({self.condition(columns)})", lambda: f"count_if({self.condition(columns)})",
                        lambda: f"approx_distinct({arg})", lambda: f"stddev_pop({self.column('integer', columns)})", lambda: f"max_by({arg}, {key})",
                        lambda: f"min_by({arg}, {key})", lambda: f"min({self.column('timestamp(3)', columns)})", lambda: f"max({self.column('timestamp(3)', columns)})",
                        lambda: f"max({self.column('date', columns)})", lambda: f"array_agg({arg} ORDER BY {key})",
                        lambda: f"listagg({self.value('varchar', columns)}, ',') WITHIN GROUP (ORDER BY {key})"]
        made = self.pick.choice(choices)()
        is_plain = not made.startswith(("listagg", "array_agg"))
        return f"{made} FILTER (WHERE {self.condition(columns)})" if is_plain and self.chance(0.2) else made

    # Sources.

    def table(self, changing=False):
        """A table, as it is or filtered and with other columns."""
        alias = self.name()
        if changing:
            return Source(f"{self.pick.choice('hu')} {alias}", [Column(f"{alias}.{name}", kind) for name, kind in CHANGING], [f"{alias}.id"], False, True)
        name = self.pick.choice("ab")
        columns = [Column(f"{alias}.{column}", kind) for column, kind in EVENTS]
        return Source(f"{name} {alias}", columns, [f"{alias}.id"], True, False)

    def derived(self, timed=True, depth=1):
        """A subquery whose columns keep their names, its key "id"."""
        alias, kind = self.name(), self.pick.choice(["plain", "filter", "union", "lookup", "computed", "unnest", "first"])
        names = [name for name, _ in EVENTS]
        plain = [Column(f"{alias}.{name}", kind) for name, kind in EVENTS]
        inside = [Column(name, kind) for name, kind in EVENTS]
        table = self.pick.choice("ab")
        if kind == "filter":
            where = self.condition(inside)
            text = f"(SELECT * FROM {table} WHERE {where})"
        elif kind == "union":
            text = "(SELECT * FROM a UNION ALL SELECT * FROM b)"
        elif kind == "lookup":
            join, looked = self.pick.choice(["JOIN", "LEFT JOIN"]), self.pick.choice(["c", "c"])
            of = ", ".join(f"o.{name}" for name in names if name != "s")
            text = f"(SELECT {of}, l.name AS s FROM {table} o {join} {looked} l ON o.k = l.k)"
        elif kind == "computed":
            values = [f"{self.value(kind, inside)} AS {name}" if name not in ("id", "ts", "k") else name for name, kind in EVENTS]
            text = f"(SELECT {', '.join(values)} FROM {table})"
        elif kind == "unnest":
            of = ", ".join(f"o.{name}" for name in names if name != "s")
            array = self.pick.choice(["ARRAY[o.s]", "ARRAY[o.s, o.k]", "split(o.s, 'b')"])
            # Rows are told apart by their place too.
            of = of.replace("o.id", "o.id * 10 + p AS id", 1)
            text = f"(SELECT {of}, u.e AS s FROM {table} o CROSS JOIN UNNEST({array}) WITH ORDINALITY AS u(e, p) WHERE o.id <> {CLOSING})"
        elif kind == "first":
            text = f"(SELECT {', '.join(names)} FROM (SELECT *, row_number() OVER (PARTITION BY v ORDER BY ts, id) AS rn FROM {table}) WHERE rn = 1)"
        else:
            text = table
        # Both tables have a closing row, and only those are alike in their "id".
        return Source(f"{text} {alias}", plain, [f"{alias}.id"], True, False)

    # Windows.

    def window(self, keys=()):
        """A window function around %s, and how it is called."""
        size = self.pick.choice([1, 2, 10, 30, 60, 100])
        offset = self.pick.choice(["", "", "", f", INTERVAL '{self.pick.choice([1, 7, -3])}' SECOND"])
        kind = self.pick.choice(["TUMBLE", "TUMBLE", "HOP", "CUMULATE", "SESSION"])
        if kind == "TUMBLE":
            return kind, f"TUMBLE(%s, DESCRIPTOR(ts), INTERVAL '{size}' SECOND{offset})"
        if kind == "SESSION":
            by = f" PARTITION BY {', '.join(keys)}" if keys else ""
            return kind, f"SESSION(%s{by}, DESCRIPTOR(ts), INTERVAL '{self.pick.choice([1, 4, 15, 60])}' SECOND)"
        step = max(size // self.pick.choice([2, 5, 1]), 1)
        return kind, f"{kind}(%s, DESCRIPTOR(ts), INTERVAL '{step}' SECOND, INTERVAL '{step * self.pick.choice([1, 2, 3, 5])}' SECOND{offset})"

    def windowed(self, keys=(), kinds=None):
        """TABLE(..) of a window function over a table or a subquery."""
        while True:
            kind, function = self.window(keys)
            if kinds is None or kind in kinds:
                break
        of = f"TABLE {self.pick.choice('ab')}"
        if self.chance(0.4):
            of = f"(SELECT * FROM {self.derived().text})"
        if kind == "SESSION" and of[0] == "(":
            of = f"TABLE {self.named(of)}"
        alias = self.name("w")
        columns = [Column(f"{alias}.{name}", kind) for name, kind in EVENTS]
        return kind, f"TABLE({function % of}) {alias}", alias, columns

    def output(self, values, extra=""):
        """A select list with names c0, c1, ..."""
        return ", ".join(f"{value} AS c{n}" for n, value in enumerate(values)) + extra

    def window_aggregate(self):
        keys = self.pick.sample(["k", "g", "f", "s", "v", "d", "day", "x"], self.pick.choice([0, 1, 1, 2]))
        kind, text, alias, columns = self.windowed(keys)
        keys = [f"{alias}.{key}" for key in keys]
        bounds = [f"{alias}.window_start", f"{alias}.window_end"] + ([f"{alias}.window_time"] if self.chance(0.2) else [])
        aggregates = [self.aggregate(columns, f"{alias}.id") for _ in range(self.pick.choice([1, 2, 3]))]
        where = f" WHERE {self.condition(columns)}" if self.chance(0.3) else ""
        having = f" HAVING {self.pick.choice(['count(*) > 1', f'max({alias}.id) % 2 = 0', f'min({alias}.g) IS NULL'])}" if self.chance(0.2) else ""
        groups = ", ".join(bounds + keys)
        if keys and kind != "SESSION" and self.chance(0.3):
            sets = self.pick.choice([f"ROLLUP ({', '.join(keys)})", f"CUBE ({', '.join(keys)})", f"GROUPING SETS (({', '.join(keys)}), ({keys[0]}), ())"])
            groups = ", ".join(bounds) + ", " + sets
            aggregates.append(f"grouping({', '.join(keys)})")
        return Query(f"window aggregate, {kind.lower()}", f"SELECT {self.output(bounds + keys + aggregates)} FROM {text}{where} GROUP BY {groups}{having}",
                     ["c0"])

    def grouped_by_window(self):
        """Flink's older windows, functions of GROUP BY."""
        size, table = self.pick.choice([5, 30]), self.pick.choice("ab")
        name, lengths = self.pick.choice([("TUMBLE", f"INTERVAL '{size}' SECOND"), ("HOP", f"INTERVAL '{size}' SECOND, INTERVAL '{2 * size}' SECOND"), ("SESSION", f"INTERVAL '{size}' SECOND")])
        columns = [Column(name, kind) for name, kind in EVENTS]
        values = [f"{name}_START(ts, {lengths})", f"{name}_END(ts, {lengths})", "k", self.aggregate(columns, "id"), self.aggregate(columns, "id")]
        return Query("window of GROUP BY", f"SELECT {self.output(values)} FROM {table} GROUP BY {name}(ts, {lengths}), k", ["c0"])

    def window_again(self):
        """Windows over the rows of windows."""
        kind, text, alias, columns = self.windowed(["k"], ("TUMBLE", "HOP", "CUMULATE"))
        first = f"SELECT {alias}.k AS k, {alias}.window_time AS ts, count(*) AS n, sum({alias}.g) AS total FROM {text} GROUP BY {alias}.k, {alias}.window_start, {alias}.window_end, {alias}.window_time"
        again, outer = self.window(["k"])
        by = ["k"] if again == "SESSION" or self.chance(0.5) else []
        of = f"TABLE {self.named(f'({first})')}" if again == "SESSION" else f"({first})"
        values = ["window_start", "window_end"] + by + [self.pick.choice(["sum(n)", "max(n)", "count(*)"]), self.pick.choice(["min(total)", "avg(total)", "count(DISTINCT k)"])]
        return Query("window over window", f"SELECT {self.output(values)} FROM TABLE({outer % of}) GROUP BY {', '.join(['window_start', 'window_end'] + by)}", ["c0"])

    def window_passed(self):
        """Rows with their windows, not grouped."""
        kind, text, alias, columns = self.windowed(kinds=("TUMBLE", "HOP", "CUMULATE"))
        values = [f"{alias}.window_start", f"{alias}.window_end", f"{alias}.id"] + [self.value(kind, columns) for kind in ("varchar", "bigint")]
        where = f" WHERE {self.condition(columns)}" if self.chance(0.5) else ""
        return Query("rows of windows", f"SELECT {self.output(values)} FROM {text}{where}", [])

    def window_top(self):
        """The first rows of each window, or of each key in it."""
        by, keys = self.pick.choice([[], ["k"], ["g", "f"]]), []
        if self.chance(0.5):
            kind, text, alias, columns = self.windowed(kinds=("TUMBLE", "HOP", "CUMULATE"))
            inner = f"SELECT {alias}.* FROM {text}"
            order = ", ".join([f"{self.column(self.pick.choice(['bigint', 'double', 'varchar', 'timestamp(3)']), [Column(n, t) for n, t in EVENTS])}{self.order()}", "id"])
            values = ["window_start", "window_end", "id", "k", "v", "rn"]
            by = [key for key in by]
        else:
            kind, text, alias, columns = self.windowed(["k", "g", "f"])
            inner = (f"SELECT {alias}.window_start, {alias}.window_end, {alias}.k, {alias}.g, {alias}.f, {self.aggregate(columns, f'{alias}.id')} AS n, count(*) AS m FROM {text} "
                     f"GROUP BY {alias}.window_start, {alias}.window_end, {alias}.k, {alias}.g, {alias}.f")
            order = f"{self.pick.choice(['m', 'n'])}{self.order()}, k{self.order()}, g{self.order()}, f{self.order()}"
            values = ["window_start", "window_end", "k", "g", "f", "n", "m", "rn"]
        if self.chance(0.3):
            values.remove("rn")
        over = ", ".join(["window_start", "window_end"] + by)
        return Query("top of windows", f"SELECT {self.output(values)} FROM (SELECT *, row_number() OVER (PARTITION BY {over} ORDER BY {order}) AS rn FROM ({inner})) WHERE rn <= {self.pick.choice([1, 2, 5])}", ["c0"])

    def order(self):
        return self.pick.choice(["", " DESC"]) + self.pick.choice(["", " NULLS FIRST", " NULLS LAST"])

    def window_join(self):
        size, key = self.pick.choice([5, 20, 60]), self.pick.choice(["k", "g", "f"])
        function = self.pick.choice([f"TUMBLE(%s, DESCRIPTOR(ts), INTERVAL '{size}' SECOND)", f"HOP(%s, DESCRIPTOR(ts), INTERVAL '{size}' SECOND, INTERVAL '{2 * size}' SECOND)"])
        def side(alias):
            table = self.pick.choice("ab")
            if self.chance(0.5):
                return f"(SELECT {key}, window_start, window_end, count(*) AS n, {self.aggregate([Column(n, t) for n, t in EVENTS], 'id')} AS m FROM TABLE({function % f'TABLE {table}'}) GROUP BY {key}, window_start, window_end) {alias}"
            return f"(SELECT {key}, window_start, window_end, id AS n, v AS m FROM TABLE({function % f'TABLE {table}'})) {alias}"
        on = f"l.{key} = r.{key} AND l.window_start = r.window_start AND l.window_end = r.window_end"
        if self.chance(0.3):
            on += self.pick.choice([" AND l.n < r.n", " AND l.n + r.n > 3", " AND r.n > 1"])
        how = self.pick.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "EXISTS", "NOT EXISTS", "IN"])
        if how.endswith("EXISTS"):
            text = f"SELECT l.window_start AS c0, l.{key} AS c1, l.n AS c2 FROM {side('l')} WHERE {how} (SELECT 1 FROM {side('r')} WHERE {on})"
            return Query(f"window join, {how.lower()}", text, ["c0"])
        if how == "IN":
            text = f"SELECT l.window_start AS c0, l.{key} AS c1, l.n AS c2 FROM {side('l')} WHERE l.{key} IN (SELECT r.{key} FROM {side('r')} WHERE l.window_start = r.window_start AND l.window_end = r.window_end)"
            return Query("window join, in", text, ["c0"])
        values = ["coalesce(l.window_start, r.window_start)", f"l.{key}", f"r.{key}", "l.n", "r.n", "l.m", "r.m"]
        return Query(f"window join, {how[:-5].lower() or 'inner'}", f"SELECT {self.output(values)} FROM {side('l')} {how} {side('r')} ON {on}", ["c0"])

    def window_join_group(self):
        """Groups by the windows of joined windows."""
        size, key, how = self.pick.choice([10, 30]), self.pick.choice(["k", "g"]), self.pick.choice(["JOIN", "JOIN", "LEFT JOIN"])
        function = f"TUMBLE(%s, DESCRIPTOR(ts), INTERVAL '{size}' SECOND)"
        side = lambda alias: f"(SELECT {key}, window_start, window_end, id, v, x FROM TABLE({function % f'TABLE {self.pick.choice(chr(97) + chr(98))}'})) {alias}"
        aggregates = [self.pick.choice(["count(*)", "sum(r.v % 5)", "count(DISTINCT r.id)"]), self.pick.choice(["max(l.x)", "min(r.x)", "count(r.id)"])]
        values = ["l.window_start", "l.window_end"] + self.pick.choice([[], [f"l.{key}"]])
        text = f"SELECT {self.output(values + aggregates)} FROM {side('l')} {how} {side('r')} ON l.{key} = r.{key} AND l.window_start = r.window_start AND l.window_end = r.window_end GROUP BY {', '.join(values)}"
        return Query("window join, grouped", text, ["c0"])

    # Joins in time and with what is looked up.

    def interval_join(self):
        left, right = self.derived(), self.derived()
        l, r = left.key[0].split(".")[0], right.key[0].split(".")[0]
        low, high = sorted(self.pick.sample([-30, -5, 0, 3, 10, 40], 2))
        key = self.pick.choice(["k", "g"])
        on = f"{l}.{key} = {r}.{key} AND " + self.pick.choice([f"{r}.ts BETWEEN {l}.ts + INTERVAL '{low}' SECOND AND {l}.ts + INTERVAL '{high}' SECOND",
                                                               f"{r}.ts >= {l}.ts + INTERVAL '{low}' SECOND AND {r}.ts < {l}.ts + INTERVAL '{high}' SECOND"])
        if self.chance(0.3):
            on += self.pick.choice([f" AND {l}.id < {r}.id", f" AND {l}.v > {r}.v", f" AND {r}.f", f" AND {l}.f"])
        how = self.pick.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
        if self.chance(0.2):
            rows = f"SELECT {l}.ts AS ts, {l}.k AS k, {r}.v AS v FROM {left.text} JOIN {right.text} ON {on}"
            text = f"SELECT window_start AS c0, k AS c1, count(*) AS c2, max(v) AS c3 FROM TABLE(TUMBLE(({rows}), DESCRIPTOR(ts), INTERVAL '20' SECOND)) GROUP BY window_start, window_end, k"
            return Query("interval join, windows", text, ["c0"])
        values = [f"{l}.id", f"{r}.id", f"{l}.ts", f"{r}.ts", f"{l}.v", f"{r}.s"]
        where = f" WHERE {self.condition(left.columns + right.columns)}" if self.chance(0.2) else ""
        return Query(f"interval join, {how[:-5].lower() or 'inner'}", f"SELECT {self.output(values)} FROM {left.text} {how} {right.text} ON {on}{where}", ["c0", "c1"])

    def lookup_join(self):
        source, table = self.derived(), self.pick.choice(["c", "e"])
        o = source.key[0].split(".")[0]
        on = self.pick.choice([f"{o}.k = l.k", f"{o}.g = l.g", f"{o}.k = l.k AND {o}.g = l.g", f"upper({o}.k) = upper(l.k) AND {o}.v > l.w", f"{o}.k = l.k AND l.w > 1"])
        how = self.pick.choice(["JOIN", "LEFT JOIN", "EXISTS", "NOT EXISTS", "IN"])
        if how.endswith("EXISTS"):
            return Query(f"lookup, {how.lower()}", f"SELECT {o}.id AS c0, {o}.k AS c1 FROM {source.text} WHERE {how} (SELECT 1 FROM {table} l WHERE {on})", [])
        if how == "IN":
            return Query("lookup, in", f"SELECT {o}.id AS c0, {o}.k AS c1 FROM {source.text} WHERE {o}.k {self.pick.choice(['', 'NOT '])}IN (SELECT l.k FROM {table} l)", [])
        values = [f"{o}.id", f"{o}.k", "l.name", "l.w"]
        where = f" WHERE {self.condition(source.columns)}" if self.chance(0.3) else ""
        return Query(f"lookup, {how[:-5].lower() or 'inner'}", f"SELECT {self.output(values)} FROM {source.text} {how} {table} l ON {on}{where}", [])

    # Without windows: changes.

    def any_source(self, depth=1):
        """Rows that may change: a table, a subquery, groups, the first rows of keys, or a join; columns k, v, x, id."""
        kind = self.pick.choice(["table", "derived", "derived", "changing", "groups", "last", "distinct", "joined"]) if depth > 0 else self.pick.choice(["table", "derived", "changing"])
        if kind == "table":
            return self.table()
        if kind == "derived":
            return self.derived()
        if kind == "changing":
            return self.table(changing=True)
        alias, inner = self.name(), self.any_source(depth - 1)
        has = lambda names: [Column(f"{alias}.{name}", kind) for name, kind in names]
        if kind == "groups":
            key = self.pick.choice([c for c in inner.columns if c.type in ("varchar", "integer", "boolean", "bigint", "decimal(12,3)")])
            text = (f"(SELECT {key.text} AS id, count(*) AS v, {self.pick.choice(['max', 'min'])}({self.value('varchar', inner.columns)}) AS k, "
                    f"{self.pick.choice(['sum', 'avg', 'max'])}({self.value('double', inner.columns)}) AS x FROM {inner.text} GROUP BY {key.text})")
            return Source(f"{text} {alias}", has([("id", key.type), ("v", "bigint"), ("k", "varchar"), ("x", "double")]), [f"{alias}.id"], False, True)
        if kind == "last":
            by, order = self.column("varchar", inner.columns), self.column(self.pick.choice(["bigint", "double", "timestamp(3)"]), inner.columns)
            key = ", ".join(f"{key}{self.order()}" for key in inner.key)
            names = {c.text.split(".")[1]: c.type for c in inner.columns}
            text = f"(SELECT * FROM (SELECT {', '.join(c.text for c in inner.columns)}, row_number() OVER (PARTITION BY {by} ORDER BY {order}{self.order()}, {key}) AS rn FROM {inner.text}) WHERE rn <= {self.pick.choice([1, 1, 2])})"
            return Source(f"{text} {alias}", has(names.items()), [f"{alias}.{key.split('.')[1]}" for key in inner.key], False, True)
        if kind == "distinct":
            text = f"(SELECT DISTINCT {self.column('varchar', inner.columns)} AS k, {self.value('bigint', inner.columns)} AS v FROM {inner.text})"
            return Source(f"{text} {alias}", has([("k", "varchar"), ("v", "bigint")]), [f"{alias}.k", f"{alias}.v"], False, inner.changing)
        other = self.any_source(0)
        kinds = [c.type for c in inner.columns if c.type in [o.type for o in other.columns] and c.type in ("varchar", "bigint", "integer")] or ["bigint"]
        kind = self.pick.choice(kinds)
        text = (f"(SELECT {self.key_of(inner)} AS i, {self.key_of(other)} AS j, {self.column('varchar', inner.columns)} AS k, {self.column('bigint', other.columns)} AS v, {self.column('double', inner.columns)} AS x "
                f"FROM {inner.text} {self.pick.choice(['JOIN', 'JOIN', 'LEFT JOIN', 'FULL JOIN'])} {other.text} ON {self.column(kind, inner.columns)} = {self.column(kind, other.columns)})")
        return Source(f"{text} {alias}", has([("i", "varchar"), ("j", "varchar"), ("k", "varchar"), ("v", "bigint"), ("x", "double")]), [f"{alias}.i", f"{alias}.j"], False, True)

    def key_of(self, source):
        """What tells its rows apart, as one text."""
        parts = [f"coalesce(CAST({key} AS varchar), '?')" for key in source.key]
        return parts[0] if len(parts) == 1 else f"concat({', '.join(parts)})"

    def running_groups(self):
        source = self.any_source()
        kinds = self.pick.sample(["varchar", "integer", "boolean", "bigint", "double", "decimal(12,3)"], self.pick.choice([0, 1, 1, 2]))
        keys = [self.value(kind, source.columns) for kind in kinds]
        keyed = keys and self.chance(0.4)
        keys = [f"coalesce({key}, {self.literal(kind)})" for key, kind in zip(keys, kinds)] if keyed else keys
        key = self.key_of(source)
        aggregates = [self.aggregate(source.columns, key, source.changing) for _ in range(self.pick.choice([1, 2, 3]))]
        places = [str(n + 1) for n in range(len(keys))]
        having = f" HAVING {self.pick.choice(['count(*) > 1', 'count(*) % 2 = 0', f'min({key}) > ' + chr(39) + '3' + chr(39)])}" if self.chance(0.25) else ""
        where = f" WHERE {self.condition(source.columns)}" if self.chance(0.3) else ""
        group = f" GROUP BY {', '.join(places)}" if keys else ""
        if keys and not keyed and all(key in [column.text for column in source.columns] for key in keys):
            group = f" GROUP BY {self.pick.choice(['ROLLUP', 'CUBE'])} ({', '.join(keys)})"
        return Query("groups" + (" of changes" if source.changing else ""), f"SELECT {self.output(keys + aggregates)} FROM {source.text}{where}{group}{having}", [], [f"c{n}" for n in range(len(keys))] if keyed else [])

    def running_join(self):
        left, right = self.any_source(), self.any_source()
        kinds = [c.type for c in left.columns if c.type in [o.type for o in right.columns] and c.type in ("varchar", "bigint", "integer", "decimal(12,3)")] or ["bigint"]
        kind = self.pick.choice(kinds)
        equal = self.pick.choice([" = ", " = ", " = ", " IS NOT DISTINCT FROM "])
        on = f"{self.value(kind, left.columns, 1)}{equal}{self.value(kind, right.columns, 1)}"
        if self.chance(0.3):
            on += f" AND {self.condition(self.pick.choice([left.columns, right.columns, left.columns + right.columns]))}"
        how = self.pick.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "EXISTS", "NOT EXISTS", "IN"])
        note = " of changes" if left.changing or right.changing else ""
        if how.endswith("EXISTS"):
            return Query(f"join, {how.lower()}{note}", f"SELECT {self.key_of(left)} AS c0, {self.column('varchar', left.columns)} AS c1 FROM {left.text} WHERE {how} (SELECT 1 FROM {right.text} WHERE {on})", [])
        if how == "IN":
            return Query(f"join, in{note}", f"SELECT {self.key_of(left)} AS c0, {self.column('bigint', left.columns)} AS c1 FROM {left.text} WHERE {self.column(kind, left.columns)} IN (SELECT {self.value(kind, right.columns)} FROM {right.text})", [])
        values = [self.key_of(left), self.key_of(right), self.column("varchar", left.columns), self.value("bigint", right.columns), self.value("double", right.columns)]
        where = f" WHERE {self.condition(left.columns + right.columns)}" if self.chance(0.25) else ""
        return Query(f"join, {how[:-5].lower() or 'inner'}{note}", f"SELECT {self.output(values)} FROM {left.text} {how} {right.text} ON {on}{where}", [])

    def running_top(self):
        source = self.any_source()
        by = f"PARTITION BY {self.column('varchar', source.columns)} " if self.chance(0.7) else ""
        key = ", ".join(f"{key}{self.order()}" for key in source.key)
        order = self.column(self.pick.choice(["bigint", "double", "timestamp(3)", "varchar"]), source.columns)
        columns = ", ".join(c.text for c in source.columns)
        values = [f"{c.text.split('.')[1]}" for c in source.columns] + (["rn"] if self.chance(0.5) else [])
        text = f"SELECT {self.output(values)} FROM (SELECT {columns}, row_number() OVER ({by}ORDER BY {order}{self.order()}, {key}) AS rn FROM {source.text}) WHERE rn <= {self.pick.choice([1, 2, 3, 6])}"
        return Query("top" + (" of changes" if source.changing else ""), text, [])

    def first_or_last(self):
        source = self.derived()
        by = self.pick.choice(["k", "g", "f", "s"])
        alias = source.key[0].split(".")[0]
        keyed = self.chance(0.4)
        of = f"coalesce({alias}.{by}, {self.literal(dict(EVENTS)[by])})" if keyed else f"{alias}.{by}"
        rows = f"SELECT {alias}.id, {of} AS k, {alias}.ts, {alias}.v FROM {source.text}"
        text = (f"SELECT {self.output(['id', 'k', 'ts', 'v'])} FROM "
                f"(SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts{self.pick.choice(['', ' DESC'])}, id) AS rn FROM ({rows})) WHERE rn = 1")
        return Query("first or last", text, [], ["c1"] if keyed else [])

    def distinct(self):
        source = self.any_source()
        values = [self.value(kind, source.columns) for kind in self.pick.sample(["varchar", "bigint", "integer", "double", "boolean", "decimal(12,3)"], 2)]
        return Query("distinct" + (" of changes" if source.changing else ""), f"SELECT DISTINCT {self.output(values)} FROM {source.text}", [])

    def union(self):
        parts, kinds, changing = [], ["varchar", "bigint", "double"], False
        how = self.pick.choice(["UNION ALL", "UNION ALL", "UNION", "INTERSECT", "EXCEPT"])
        for _ in range(2):
            source = self.any_source()
            changing |= source.changing
            where = f" WHERE {self.condition(source.columns)}" if self.chance(0.4) else ""
            parts.append(f"SELECT {self.output([self.value(kind, source.columns) for kind in kinds])} FROM {source.text}{where}")
        return Query(how.lower() + (" of changes" if changing else ""), f" {how} ".join(parts), [])

    def passed(self):
        source = self.derived()
        values = [self.value(kind, source.columns) for kind in self.pick.sample(["varchar", "bigint", "integer", "double", "boolean", "decimal(12,3)", "date", "timestamp(3)"], 4)]
        where = f" WHERE {self.condition(source.columns, 2)}" if self.chance(0.7) else ""
        return Query("rows", f"SELECT {self.output(values)} FROM {source.text}{where}", [])

    def query(self):
        kinds = [self.window_aggregate] * 5 + [self.grouped_by_window] + [self.window_again] * 2 + [self.window_passed, self.window_top, self.window_top] + [self.window_join] * 3 + [self.window_join_group]
        kinds += [self.interval_join] * 3 + [self.lookup_join] * 2 + [self.running_groups] * 4 + [self.running_join] * 4
        kinds += [self.running_top] * 2 + [self.first_or_last, self.distinct, self.union, self.union, self.passed]
        made = self.pick.choice(kinds)()
        return made._replace(text=f"WITH {', '.join(self.ctes)} {made.text}") if self.ctes else made
