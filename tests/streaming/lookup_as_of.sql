-- Flink's words for a lookup: the table as it is when the row comes.
CREATE TABLE located_now (id BIGINT, city VARCHAR) WITH ('connector' = '${sink}');
CREATE TABLE located_or_not (id BIGINT, city VARCHAR) WITH ('connector' = '${sink}');
INSERT INTO located_now
SELECT k.id, c.city FROM clicks k JOIN cities FOR SYSTEM_TIME AS OF k.ts AS c ON k.user_id = c.user_id;
INSERT INTO located_or_not
SELECT k.id, c.city FROM clicks AS k LEFT JOIN cities FOR SYSTEM_TIME AS OF k.ts AS c ON k.user_id = c.user_id AND c.city <> 'Oslo';
