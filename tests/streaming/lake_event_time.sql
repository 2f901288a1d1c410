-- Tables of the catalog, declared as in Athena, are sources of a job as they are; their properties name the event time.
CREATE EXTERNAL TABLE lake_clicks (id BIGINT, user_id STRING, page STRING, amount BIGINT, ts TIMESTAMP)
  STORED AS PARQUET LOCATION '${lake}/clicks/'
  TBLPROPERTIES ('watermark.column' = 'ts', 'watermark.delay' = '5 s');
CREATE EXTERNAL TABLE lake_views (user_id STRING, amount BIGINT, ts TIMESTAMP)
  STORED AS PARQUET LOCATION '${lake}/views/'
  TBLPROPERTIES ('watermark.column' = 'TS', 'watermark.delay' = '5 s', 'scan.watermark.idle-timeout' = '1 min');
CREATE TABLE counts (user_id VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3), n BIGINT, total BIGINT)
  WITH ('connector' = '${sink}');
CREATE TABLE visits (user_id VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3), largest BIGINT)
  WITH ('connector' = '${sink}');
CREATE TABLE streamed (user_id VARCHAR, amount BIGINT) WITH ('connector' = '${sink}');
INSERT INTO counts SELECT user_id, window_start, window_end, count(*), sum(amount)
  FROM TABLE(TUMBLE(TABLE lake_clicks, DESCRIPTOR(ts), INTERVAL '30' SECOND)) GROUP BY user_id, window_start, window_end;
INSERT INTO visits SELECT user_id, window_start, window_end, max(amount)
  FROM TABLE(SESSION(TABLE lake_views PARTITION BY user_id, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY user_id, window_start, window_end;
INSERT INTO streamed SELECT user_id, amount FROM views;
