-- A stream looks rows up in a folder, then windows; one left, one inner, one as of the time of the row.
CREATE TABLE by_city (city VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3), n BIGINT) WITH ('connector' = '${sink}');
CREATE TABLE located (id BIGINT, city VARCHAR) WITH ('connector' = '${sink}');
CREATE VIEW placed AS SELECT k.id, k.ts, c.city FROM clicks k LEFT JOIN cities c ON k.user_id = c.user_id;
INSERT INTO by_city SELECT city, window_start, window_end, count(*)
  FROM TABLE(TUMBLE(TABLE placed, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY city, window_start, window_end;
INSERT INTO located SELECT k.id, c.city FROM cities c JOIN clicks k ON lower(k.user_id) = c.user_id AND c.city <> k.page;
