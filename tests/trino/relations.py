"""Random relational queries that mean the same to Headwater and to DuckDB.

Their values are small, their sums exact, and what they order or cut is ordered by all that tells rows apart. Where the two
spell something differently the text holds both spellings, `both(headwater's, DuckDB's)`, and `spelled` takes one.
"""

import random
import re
from collections import namedtuple

COLUMNS = [("id", "integer"), ("i", "integer"), ("b", "bigint"), ("x", "double"), ("s", "varchar"), ("f", "boolean"),
           ("d", "date"), ("ts", "timestamp"), ("m", "decimal(8,2)")]
TYPES = ["integer", "integer", "bigint", "double", "varchar", "varchar", "boolean", "date", "timestamp", "decimal(8,2)"]
POOL = {"integer": ["0", "1", "2", "3", "-1", "7"], "bigint": ["BIGINT '1'", "BIGINT '2'", "BIGINT '3'", "BIGINT '10000000000'"],
        "double": ["DOUBLE '0.5'", "DOUBLE '1.5'", "DOUBLE '-2.0'", "DOUBLE '3.0'"], "varchar": ["'a'", "'b'", "'ab'", "''", "'12'", "'x%y'"],
        "boolean": ["true", "false"], "date": ["DATE '2024-01-01'", "DATE '2024-01-02'", "DATE '2024-02-29'"],
        "timestamp": ["TIMESTAMP '2024-01-01 00:00:00'", "TIMESTAMP '2024-01-01 12:30:00'", "TIMESTAMP '2024-03-01 00:00:01'"],
        "decimal(8,2)": ["CAST(1.5 AS decimal(8,2))", "CAST(2.25 AS decimal(8,2))", "CAST(-3 AS decimal(8,2))"]}
NUMBERS = ("integer", "bigint", "double", "decimal(8,2)")
Column = namedtuple("Column", "text type")
# What a FROM gives: its text, its columns, those that tell its rows apart, and whether two rows may be alike in all.
Source = namedtuple("Source", "text columns key unique")
Made = namedtuple("Made", "text types")


def both(headwater, duck):
    return f"\x01{headwater}\x02{duck}\x03"


def spelled(text, which):
    pattern = re.compile("\x01([^\x01\x02\x03]*)\x02([^\x01\x02\x03]*)\x03")
    while "\x01" in text:
        text = pattern.sub(lambda found: found.group(which), text)
    return text


class Generator:
    def __init__(self, seed):
        self.pick = random.Random(seed)
        self.names, self.ctes = 0, []

    def chance(self, share):
        return self.pick.random() < share

    def name(self, prefix="t"):
        self.names += 1
        return f"{prefix}{self.names}"

    # Values.

    def literal(self, kind):
        return f"CAST(NULL AS {kind})" if self.chance(0.06) else self.pick.choice(POOL[kind])

    def column(self, kind, scope):
        fitting = [c.text for c in scope if c.type == kind]
        return self.pick.choice(fitting) if fitting and self.chance(0.9) else self.pick.choice(POOL[kind])

    def value(self, kind, scope, outer=(), depth=2):
        """An expression of a type over columns, and rarely over those of queries around."""
        if depth <= 0 or self.chance(0.5):
            if outer and self.chance(0.15):
                return self.column(kind, outer)
            return self.column(kind, scope) if self.chance(0.85) else self.literal(kind)
        again = lambda k: self.value(k, scope, outer, depth - 1)
        general = [lambda: f"CASE WHEN {self.condition(scope, outer, depth - 1)} THEN {again(kind)} ELSE {again(kind)} END",
                   lambda: f"CASE {again('integer')} WHEN 1 THEN {again(kind)} WHEN {again('integer')} THEN {again(kind)} END",
                   lambda: f"COALESCE({again(kind)}, {again(kind)})", lambda: f"NULLIF({again(kind)}, {again(kind)})",
                   lambda: f"IF({self.condition(scope, outer, depth - 1)}, {again(kind)}, {again(kind)})",
                   lambda: self.scalar(kind, list(scope) + list(outer), depth - 1)]
        own = {"integer": [lambda: f"({again('integer')} + {self.pick.choice('123')})", lambda: f"({again('integer')} - {again('integer')})",
                           lambda: f"length({again('varchar')})", lambda: f"TRY_CAST({again('varchar')} AS integer)",
                           lambda: f"TRY({again('integer')} % {again('integer')})", lambda: f"({again('integer')} % 3)",
                           lambda: f"CAST(EXTRACT(DAY FROM {again('date')}) AS integer)", lambda: self.lambdas(scope, outer)],
               "bigint": [lambda: f"({again('bigint')} + {again('integer')})", lambda: f"CAST({again('integer')} AS bigint)",
                          lambda: f"date_diff('day', {again('date')}, {again('date')})"],
               "double": [lambda: f"({again('double')} + {again('integer')})", lambda: f"({again('double')} * 2)", lambda: f"abs({again('double')})",
                          lambda: f"CAST({again('decimal(8,2)')} AS double)"],
               "varchar": [lambda: f"({again('varchar')} || {again('varchar')})", lambda: f"upper({again('varchar')})",
                           lambda: f"substr({again('varchar')}, 1, 1)", lambda: f"CAST({again('integer')} AS varchar)"],
               "boolean": [lambda: f"({self.condition(scope, outer, depth - 1)})"] * 3,
               "date": [lambda: f"CAST({again('date')} + INTERVAL '1' DAY AS date)", lambda: f"CAST({again('timestamp')} AS date)"],
               "timestamp": [lambda: f"({again('timestamp')} + INTERVAL '2' HOUR)", lambda: f"CAST({again('date')} AS timestamp)"],
               "decimal(8,2)": [lambda: f"CAST({again('integer')} AS decimal(8,2))", lambda: f"CAST({again('decimal(8,2)')} + 1 AS decimal(8,2))"]}
        return self.pick.choice(general + own[kind] * 2)()

    def lambdas(self, scope, outer):
        """A number from an array and lambdas that see columns."""
        array = "ARRAY[" + ", ".join(self.value("integer", scope, outer, 0) for _ in range(self.pick.randint(1, 3))) + "]"
        seen = self.value("integer", scope, outer, 0)
        array = self.pick.choice([array, both(f"transform({array}, v -> v + {seen})", f"list_transform({array}, lambda v: v + {seen})"),
                                  both(f"filter({array}, v -> v > {seen})", f"list_filter({array}, lambda v: v > {seen})")])
        start = f"COALESCE({seen}, 0)"
        return self.pick.choice([
            both(f"cardinality({array})", f"CAST(len({array}) AS integer)"), both(f"element_at({array}, 1)", f"({array})[1]"),
            both(f"reduce({array}, {start}, (s, v) -> s + COALESCE(v, 0), s -> s)",
                 f"list_reduce({array}, lambda s, v: s + COALESCE(v, 0), {start})")])

    # Conditions.

    def condition(self, scope, outer=(), depth=2):
        kind = self.pick.choice(TYPES)
        v = lambda k=kind, d=depth - 1: self.value(k, scope, outer, min(d, 1))
        simple = [lambda: f"{v()} {self.pick.choice(['=', '<>', '<', '<=', '>', '>='])} {v()}", lambda: f"{v()} IS {self.pick.choice(['', 'NOT '])}NULL",
                  lambda: f"{v()} IS {self.pick.choice(['', 'NOT '])}DISTINCT FROM {v()}", lambda: f"{v()} {self.pick.choice(['', 'NOT '])}BETWEEN {v()} AND {v()}",
                  lambda: f"{v()} {self.pick.choice(['', 'NOT '])}IN ({', '.join(v(d=0) for _ in range(self.pick.randint(1, 4)))})",
                  lambda: f"{v('varchar')} {self.pick.choice(['', 'NOT '])}LIKE '{self.pick.choice(['a%', '%b', '_', '%', '', 'x!%%'])}' ESCAPE '!'",
                  lambda: v("boolean"), lambda: f"{v('integer')} {self.pick.choice(['=', '<', '>'])} {v(self.pick.choice(NUMBERS))}"]
        if depth <= 0 or self.chance(0.45):
            return self.pick.choice(simple)()
        inner = lambda: self.condition(scope, outer, depth - 1)
        return self.pick.choice([lambda: f"({inner()} {self.pick.choice(['AND', 'OR'])} {inner()})", lambda: f"NOT ({inner()})",
                                 lambda: self.subquery(list(scope), list(outer), depth - 1), lambda: self.subquery(list(scope), list(outer), depth - 1),
                                 lambda: f"({inner()}) IS {self.pick.choice(['', 'NOT '])}DISTINCT FROM true"])()

    def subquery(self, scope, outer, depth):
        """A condition on the rows of a query, which may be correlated."""
        around = scope + outer
        kind = self.pick.choice(TYPES)
        v = self.value(kind, scope, outer, 0)
        plain = self.query(around, depth, [kind]) if self.chance(0.6) else self.query((), depth, [kind])
        op = self.pick.choice(["=", "<>", "<", "<=", ">", ">="])
        return self.pick.choice([
            lambda: f"{v} IN ({plain.text})", lambda: f"{v} NOT IN ({plain.text})", lambda: f"EXISTS ({plain.text})", lambda: f"NOT EXISTS ({plain.text})",
            lambda: f"{v} {op} {self.pick.choice(['ANY', 'ALL'])} ({plain.text})",
            lambda: self.pair_in(kind, v, scope, depth),
            lambda: f"{v} {op} {self.scalar(kind, around, depth)}"])()

    def pair_in(self, kind, value, scope, depth):
        """A pair among pairs: without NULLs, which DuckDB compares otherwise, and not correlated, which it does not know."""
        made, name = self.query((), depth, [kind, "integer"]), self.name()
        known = f"SELECT {name}.c0, {name}.c1 FROM ({made.text}) {name} WHERE {name}.c0 IS NOT NULL AND {name}.c1 IS NOT NULL"
        left = f"(COALESCE({value}, {self.pick.choice(POOL[kind])}), COALESCE({self.value('integer', scope, (), 0)}, 1))"
        return f"{left} {self.pick.choice(['', 'NOT '])}IN ({known})"

    def scalar(self, kind, around, depth):
        """A subquery of one value."""
        source = self.source(around, depth - 1)
        where = self.where(source.columns, around, depth - 1)
        if self.chance(0.25):
            kept = self.value(kind, source.columns, around, 0)
            order = f"ORDER BY 1 {self.pick.choice(['', 'DESC', 'NULLS FIRST', 'DESC NULLS LAST'])} LIMIT 1"
            return f"(SELECT {kept} FROM {source.text}{where} {order})"
        kept, call = self.value(kind, source.columns, (), 0), self.pick.choice(["min", "max"])
        if kind == "bigint":
            call = self.pick.choice(["min", "max", "count", "count(DISTINCT"])
        kept = f"{call} {kept})" if "(" in call else f"{call}({kept})"
        having = f" HAVING count(*) {self.pick.choice(['>', '<'])} {self.pick.choice('0123')}" if self.chance(0.15) else ""
        return f"(SELECT {kept} FROM {source.text}{where}{having})"

    def where(self, scope, outer, depth):
        parts = []
        if outer and self.chance(0.7):
            kind = self.pick.choice([c.type for c in outer])
            parts.append(f"{self.column(kind, scope)} {self.pick.choice(['=', '=', '=', '=', '<', 'IS NOT DISTINCT FROM'])} {self.column(kind, outer)}")
        if self.chance(0.3 if parts else 0.5):
            parts.append(self.condition(scope, outer, depth))
        return " WHERE " + " AND ".join(parts) if parts else ""

    # Relations.

    def source(self, outer, depth):
        """One item of FROM."""
        name = self.name()
        if depth > 0 and self.chance(0.3):
            made = self.query(outer if self.chance(0.4) else (), depth - 1)
            columns = [Column(f"{name}.c{n}", kind) for n, kind in enumerate(made.types)]
            return Source(f"({made.text}) {name}", columns, columns, False)
        if self.chance(0.06):
            return self.using(name)
        if self.ctes and self.chance(0.5):
            cte, types = self.pick.choice(self.ctes)
            columns = [Column(f"{name}.c{n}", kind) for n, kind in enumerate(types)]
            return Source(f"{cte} {name}", columns, columns, False)
        if self.chance(0.12):
            types = [self.pick.choice(TYPES) for _ in range(self.pick.randint(1, 3))]
            rows = ", ".join("(" + ", ".join(self.literal(kind) if n else self.pick.choice(POOL[kind]) for kind in types) + ")"
                             for n in range(self.pick.randint(1, 4)))
            columns = [Column(f"{name}.c{n}", kind) for n, kind in enumerate(types)]
            return Source(f"(VALUES {rows}) {name}({', '.join(f'c{n}' for n in range(len(types)))})", columns, columns, False)
        table = self.pick.choice(["p", "p", "p", "j", "j", "j", "h", "h", "h", "q", "q", "q", "v", "w", "v", "w", "z"])
        columns = [Column(f"{name}.{column}", kind) for column, kind in COLUMNS]
        return Source(f"{table} {name}", columns, columns if table in "vw" else columns[:1], table not in "vw")

    def using(self, name):
        """Tables joined by columns of one name."""
        by = self.pick.sample([column for column, _ in COLUMNS[1:]], self.pick.choice([1, 1, 2]))
        kept = [(column, column) for column in by] + [(f"{side}.{column}", column) for side in "kl" for column, _ in COLUMNS if column not in by and self.chance(0.2)]
        how = self.pick.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
        a, b = (self.pick.choice("pqjh") for _ in range(2))
        columns = [Column(f"{name}.c{n}", dict(COLUMNS)[column]) for n, (_, column) in enumerate(kept)]
        return Source(f"(SELECT {self.listed(text for text, _ in kept)} FROM {a} k {how} {b} l USING ({', '.join(by)})) {name}", columns, columns, False)

    def relations(self, outer, depth):
        """FROM: joins of sources."""
        made = self.source(outer, depth)
        for _ in range(self.pick.choice([0, 0, 0, 1, 1, 2]) if depth > 0 else self.pick.choice([0, 0, 0, 1])):
            made = self.join(made, outer, depth)
        if self.chance(0.05):  # Last, since a comma binds less than JOIN.
            right = self.source(outer, depth)
            made = Source(f"{made.text}, {right.text}", made.columns + right.columns, list(made.key) + list(right.key), made.unique and right.unique)
        return made

    def join(self, left, outer, depth):
        form = self.pick.random()
        if form < 0.1:
            return self.unnested(left, outer)
        if form < 0.2:
            name = self.name()
            made = self.query(left.columns + list(outer), depth - 1)
            columns = [Column(f"{name}.c{n}", kind) for n, kind in enumerate(made.types)]
            how = self.pick.choice([f"CROSS JOIN LATERAL ({made.text}) {name}", f"LEFT JOIN LATERAL ({made.text}) {name} ON true"])
            return Source(f"{left.text} {how}", left.columns + columns, list(left.key) + columns, False)
        right = self.source(outer, depth)
        columns, key = left.columns + right.columns, list(left.key) + list(right.key)
        how = self.pick.choice(["JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"])
        if how == "CROSS JOIN":
            return Source(f"{left.text} CROSS JOIN {right.text}", columns, key, left.unique and right.unique)
        kinds = [c.type for c in right.columns]
        parts = []
        for _ in range(self.pick.choice([1, 1, 1, 2])):
            kind = self.pick.choice(kinds)
            parts.append(f"{self.column(kind, left.columns)} {self.pick.choice(['=', '=', '=', '=', 'IS NOT DISTINCT FROM', '<'])} {self.column(kind, right.columns)}")
        if self.chance(0.3):
            parts.append(self.condition(columns, (), 1 if how == "JOIN" else 0))
        return Source(f"{left.text} {how} {right.text} ON {' AND '.join(parts)}", columns, key, left.unique and right.unique)

    def unnested(self, left, outer):
        name = self.name("u")
        array = "ARRAY[" + ", ".join(self.value("integer", left.columns, outer, 0) for _ in range(self.pick.randint(1, 3))) + "]"
        if self.chance(0.3):
            array = both(f"filter({array}, e -> e > 0)", f"list_filter({array}, lambda e: e > 0)")
        columns = [Column(f"{name}.e", "integer"), Column(f"{name}.o", "bigint")]
        how = self.pick.choice(["CROSS JOIN {} ", "LEFT JOIN {} ON true"]).format(f"UNNEST({array}) WITH ORDINALITY AS {name}(e, o)")
        return Source(f"{left.text} {how}", left.columns + columns, list(left.key) + columns, left.unique)

    # Queries.

    def query(self, outer, depth, types=None):
        """A query of some types whose columns are c0, c1, .."""
        types = types or [self.pick.choice(TYPES) for _ in range(self.pick.choice([1, 2, 2, 3]))]
        form = self.pick.random()
        if depth > 0 and form < 0.15:
            op = self.pick.choice(["UNION", "UNION ALL", "UNION ALL", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"])
            text, extra = f"{self.arm(outer, depth, types)} {op} {self.arm(outer, depth, types)}", None
        else:
            form = self.pick.choice([self.plain, self.plain, self.plain, self.grouped, self.grouped, self.totals, self.windowed])
            text, extra = form(outer, depth, types)
        if self.chance(0.25):
            text += self.cut(types, extra)
        return Made(text, types)

    def arm(self, outer, depth, types):
        made = self.query(outer, depth - 1, types)
        return f"({made.text})" if self.chance(0.3) or re.search(r"ORDER BY|LIMIT|OFFSET|UNION|EXCEPT|INTERSECT", made.text) else made.text

    def cut(self, types, extra):
        """ORDER BY all columns and LIMIT, so that rows which are cut apart are equal."""
        keys = list(range(1, len(types) + 1)) + ([extra] if extra and self.chance(0.4) else [])
        self.pick.shuffle(keys)
        order = " ORDER BY " + ", ".join(f"{k}{self.pick.choice(['', ' DESC', ' NULLS FIRST', ' DESC NULLS FIRST', ' DESC NULLS LAST'])}" for k in keys)
        offset = self.pick.choice(["", "", f" OFFSET {self.pick.randint(0, 2)}"])
        limit = self.pick.choice(["", f" LIMIT {self.pick.choice([0, 1, 2, 3, 4, 5, 6, 8, 13])}", f" LIMIT {self.pick.randint(1, 9)}"])
        return order + both(offset + limit, limit + offset)

    def listed(self, values):
        return ", ".join(f"{value} AS c{n}" for n, value in enumerate(values))

    def plain(self, outer, depth, types):
        source = self.relations(outer, depth)
        values = [self.pick.choice(POOL[kind]) if self.chance(0.07) else self.value(kind, source.columns, outer, depth) for kind in types]
        distinct = "DISTINCT " if self.chance(0.15) else ""
        extra = None if distinct else f"COALESCE({self.value('integer', source.columns, outer, min(depth, 1))}, 0)"
        return f"SELECT {distinct}{self.listed(values)} FROM {source.text}{self.where(source.columns, outer, depth)}", extra

    def aggregate(self, kind, scope, outer):
        v = lambda k: self.value(k, scope, outer, 1) if self.chance(0.3) else self.column(k, scope)
        own = {"bigint": [lambda: "count(*)", lambda: f"count({v(self.pick.choice(TYPES))})", lambda: f"count(DISTINCT {v(self.pick.choice(TYPES))})",
                          lambda: f"CAST(sum({v('integer')}) AS bigint)", lambda: f"CAST(sum(DISTINCT {v('integer')}) AS bigint)", lambda: f"COALESCE(count_if({v('boolean')}), 0)"],
               "double": [lambda: f"sum({v('double')})", lambda: f"avg({v('integer')})", lambda: f"avg({v('double')})", lambda: f"sum(DISTINCT {v('double')})"],
               "boolean": [lambda: f"bool_and({v('boolean')})", lambda: f"bool_or({v('boolean')})"],
               "varchar": [lambda: self.ordered(v("varchar"))],
               "decimal(8,2)": [lambda: f"CAST(sum({v('decimal(8,2)')}) AS decimal(8,2))"]}
        call = self.pick.choice([lambda: f"min({v(kind)})", lambda: f"max({v(kind)})"] + own.get(kind, []) * 2)()
        if self.chance(0.15) and not call.startswith(("CAST", "COALESCE", "\x01")):
            call += f" FILTER (WHERE {self.condition(scope, (), 0)})"
        return call

    def ordered(self, value):
        order = f"{value}{self.pick.choice(['', ' DESC'])}"
        return both(f"array_join(array_agg({value} ORDER BY {order}), ',')", f"CASE WHEN count(*) > 0 THEN COALESCE(array_to_string(array_agg({value} ORDER BY {order}), ','), '') END")

    def totals(self, outer, depth, types):
        source = self.relations(outer, depth)
        values = [self.aggregate(kind, source.columns, ()) for kind in types]
        having = f" HAVING count(*) {self.pick.choice(['>', '<', '>='])} {self.pick.choice('0123')}" if self.chance(0.2) else ""
        return f"SELECT {self.listed(values)} FROM {source.text}{self.where(source.columns, outer, depth)}{having}", None

    def grouped(self, outer, depth, types):
        source = self.relations(outer, depth)
        keys = list(dict.fromkeys(self.pick.choice(source.columns) for _ in range(self.pick.choice([1, 2, 2, 3]))))
        scope, values = [Column(key.text, key.type) for key in keys], []
        texts = [key.text for key in keys]
        form = self.pick.random()
        by = ", ".join(texts)
        if form < 0.12:
            by = f"ROLLUP ({by})"
        elif form < 0.22:
            by = f"CUBE ({by})"
        elif form < 0.34:
            sets = [self.pick.sample(texts, self.pick.randint(0, len(texts))) for _ in range(self.pick.randint(1, 3))] + [texts]
            by = "GROUPING SETS (" + ", ".join(f"({', '.join(one)})" for one in sets) + ")"
        elif form < 0.4 and len(texts) > 1:
            by = f"{texts[0]}, ROLLUP ({', '.join(texts[1:])})"
        for kind in types:
            fitting = [key.text for key in keys if key.type == kind]
            if fitting and self.chance(0.6):
                values.append(self.pick.choice(fitting))
            elif self.chance(0.25):
                values.append(self.value(kind, scope, (), depth))
            elif kind == "bigint" and form < 0.4 and self.chance(0.5):
                values.append(f"CAST(grouping({', '.join(self.pick.sample(texts, self.pick.randint(1, len(texts))))}) AS bigint)")
            else:
                values.append(self.aggregate(kind, source.columns, ()))
        having = ""
        if self.chance(0.25):
            having = " HAVING " + self.pick.choice([
                lambda: f"count(*) {self.pick.choice(['>', '<'])} {self.pick.choice('123')}", lambda: self.condition(scope, (), depth),
                lambda: f"{self.aggregate('bigint', source.columns, ())} > {self.scalar('bigint', scope, depth)}"])()
        return f"SELECT {self.listed(values)} FROM {source.text}{self.where(source.columns, outer, depth)} GROUP BY {by}{having}", self.aggregate("bigint", source.columns, ())

    def windowed(self, outer, depth, types):
        source = self.relations(outer, depth)
        # Of rows that are alike two calls may number now this one first, now that one.
        by_place = [source.unique or n == 0 for n in range(len(types))]
        values = [self.window(kind, source, total) if self.chance(0.7) else self.value(kind, source.columns, outer, 1)
                  for kind, total in zip(types, by_place)]
        return f"SELECT {self.listed(values)} FROM {source.text}{self.where(source.columns, outer, depth)}", None

    def window(self, kind, source, by_place):
        v = self.column(kind, source.columns)
        part = [self.pick.choice(source.columns).text for _ in range(self.pick.choice([0, 1, 1, 2]))]
        total = by_place and self.chance(0.6)
        order = [self.pick.choice(source.columns).text for _ in range(self.pick.choice([0, 1, 1, 2]))] + ([c.text for c in source.key] if total else [])
        direction = lambda: self.pick.choice(["", "", " DESC", " NULLS FIRST", " DESC NULLS FIRST", " DESC NULLS LAST"])
        ordering = ", ".join(f"{one}{direction()}" for one in order)
        any_order = [lambda: f"min({v})", lambda: f"max({v})"]
        any_order += {"bigint": [lambda: "count(*)", lambda: f"sum({self.column('integer', source.columns)})", lambda: f"count({v})"],
                      "double": [lambda: f"sum({v})", lambda: f"avg({v})"], "boolean": [lambda: f"bool_or({v})"]}.get(kind, []) * 2
        frames = ["", "", " RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"]
        if order:
            frames += [" RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING", " RANGE UNBOUNDED PRECEDING"]
            frames += [f" GROUPS BETWEEN {a} AND {b}" for a, b in [("1 PRECEDING", "CURRENT ROW"), ("1 PRECEDING", "1 FOLLOWING"), ("1 FOLLOWING", "UNBOUNDED FOLLOWING"),
                                                                   ("2 PRECEDING", "1 PRECEDING"), ("CURRENT ROW", "2 FOLLOWING")]]
        call = self.pick.choice(any_order)()
        if order and kind == "bigint" and self.chance(0.4):
            call, frames = self.pick.choice(["rank()", "dense_rank()"] + (["row_number()", "ntile(3)"] if total else [])), [""]
        elif total and order and self.chance(0.6):
            default = self.pick.choice(POOL[kind])
            nulls = self.pick.choice([("", ""), (" IGNORE NULLS", " IGNORE NULLS")])
            choice = self.pick.choice([f"lag({v}NULLS)", f"lead({v}, 2NULLS)", f"lag({v}, 1, {default}NULLS)", f"first_value({v}NULLS)", f"last_value({v}NULLS)", f"nth_value({v}, 2NULLS)"])
            call = both(choice.replace("NULLS)", ")") + nulls[0], choice.replace("NULLS)", nulls[1] + ")"))
            frames = [""] if choice.startswith(("lag", "lead")) else frames
        if total and order and frames != [""]:
            frames += [f" ROWS BETWEEN {a} AND {b}" for a, b in [("1 PRECEDING", "CURRENT ROW"), ("1 PRECEDING", "1 FOLLOWING"), ("UNBOUNDED PRECEDING", "1 PRECEDING"), ("1 FOLLOWING", "2 FOLLOWING"),
                                                                 ("CURRENT ROW", "UNBOUNDED FOLLOWING"), ("3 PRECEDING", "2 PRECEDING"), ("UNBOUNDED PRECEDING", "UNBOUNDED FOLLOWING")]]
        inside = (f"PARTITION BY {', '.join(part)} " if part else "") + (f"ORDER BY {ordering}" if order else "")
        frame = self.pick.choice(frames)
        spelt = f"{call} OVER ({inside}{frame})"
        return f"CAST({spelt} AS bigint)" if call.startswith("sum") and kind == "bigint" else spelt

    def statement(self):
        """A whole statement."""
        texts, depth = [], self.pick.choice([0, 1, 1, 2, 2, 2])
        for _ in range(self.pick.choice([0, 0, 0, 1, 2])):
            made = self.query((), depth - 1)
            name = self.name("cte")
            texts.append(f"{name} AS ({made.text})")
            self.ctes.append((name, made.types))
        made = self.query((), depth, [self.pick.choice(TYPES) for _ in range(self.pick.choice([1, 2, 3, 4]))])
        return ("WITH " + ", ".join(texts) + " " if texts else "") + made.text
