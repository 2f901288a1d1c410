-- -0.0 and 0.0 are one key: of groups that change, of sessions, of windows and of DISTINCT.
CREATE TABLE groups (z DOUBLE, n BIGINT, PRIMARY KEY (z) NOT ENFORCED) WITH ('connector' = '${sink}');
CREATE TABLE sessions (z DOUBLE, started TIMESTAMP(3), n BIGINT) WITH ('connector' = '${sink}');
CREATE TABLE minutes (z DOUBLE, started TIMESTAMP(3), n BIGINT) WITH ('connector' = '${sink}');
CREATE TABLE known (z DOUBLE, PRIMARY KEY (z) NOT ENFORCED) WITH ('connector' = '${sink}');
CREATE VIEW signed AS SELECT id, user_id, amount, ts, CASE WHEN amount > 90 THEN 0E0 WHEN amount > 0 THEN -0E0 ELSE price END AS z FROM clicks;
INSERT INTO groups SELECT z, count(*) FROM (SELECT user_id, CASE min(amount) % 3 WHEN 0 THEN -0E0 WHEN -1 THEN 0E0 ELSE 0E0 * min(amount) END AS z FROM clicks GROUP BY user_id) GROUP BY z;
INSERT INTO sessions SELECT z, window_start, count(*) FROM TABLE(SESSION(TABLE signed PARTITION BY z, DESCRIPTOR(ts), INTERVAL '1' SECOND))
  GROUP BY z, window_start, window_end;
INSERT INTO minutes SELECT z, window_start, count(*) FROM TABLE(TUMBLE(TABLE signed, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
  GROUP BY z, window_start, window_end;
INSERT INTO known SELECT DISTINCT z FROM signed;
