-- A folder whose event time and another column are computed from what its files have.
CREATE TABLE shifted (
  id BIGINT, user_id VARCHAR, amount BIGINT, ts TIMESTAMP(3), twice AS amount * 2, later AS ts + INTERVAL '1' SECOND,
  WATERMARK FOR later AS later - INTERVAL '5' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${lake}/clicks', 'format' = 'parquet');
CREATE TABLE counts (user_id VARCHAR, window_start TIMESTAMP(3), n BIGINT, total BIGINT) WITH ('connector' = '${sink}');
CREATE TABLE looked_up (id BIGINT, twice BIGINT) WITH ('connector' = '${sink}');
INSERT INTO counts SELECT user_id, window_start, count(*), sum(twice)
  FROM TABLE(TUMBLE(TABLE shifted, DESCRIPTOR(later), INTERVAL '30' SECOND)) GROUP BY user_id, window_start, window_end;
INSERT INTO looked_up SELECT id, amount FROM views;
