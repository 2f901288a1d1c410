-- A window function without aggregation.
CREATE TABLE assigned (id BIGINT, window_start TIMESTAMP(3), window_end TIMESTAMP(3), late_by BIGINT) WITH ('connector' = '${sink}');
INSERT INTO assigned SELECT id, window_start, window_end, date_diff('millisecond', window_start, ts)
FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(ts), INTERVAL '15' SECOND, INTERVAL '30' SECOND)) WHERE amount > 150;
