-- Two streams as one, then windows.
CREATE TABLE counts (kind VARCHAR, page VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3), n BIGINT)
  WITH ('connector' = '${sink}');
CREATE VIEW everything AS
  SELECT 'click' AS kind, page, ts FROM clicks WHERE amount > 0
  UNION ALL SELECT 'view', page, ts FROM views
  UNION ALL SELECT 'again', page, ts FROM views WHERE amount > 90;
INSERT INTO counts
SELECT kind, page, window_start, window_end, count(*)
FROM TABLE(TUMBLE(TABLE everything, DESCRIPTOR(ts), INTERVAL '30' SECOND)) GROUP BY kind, page, window_start, window_end;
