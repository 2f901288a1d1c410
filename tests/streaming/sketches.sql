-- Aggregates whose state is a sketch or a collection; those whose answer depends on the order are ordered.
CREATE TABLE sketches (page VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3), users BIGINT, all_ids VARCHAR, spread DOUBLE,
                       trend DOUBLE, counted BIGINT, every_one BOOLEAN, product DOUBLE, best VARCHAR, often VARCHAR)
  WITH ('connector' = '${sink}');
INSERT INTO sketches
SELECT page, window_start, window_end, approx_distinct(user_id), array_join(array_agg(id ORDER BY id), ','), stddev(price),
       corr(price, CAST(id AS DOUBLE)), count_if(amount > 3), bool_and(amount > -20), geometric_mean(price + 1), min_by(user_id, id),
       json_format(CAST(histogram(user_id) AS JSON))
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY page, window_start, window_end;
