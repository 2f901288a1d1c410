-- Sketches that can be merged: of quantiles, distinct values, moments and checksums.
CREATE TABLE quantiles (page VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3), middle BIGINT, ends VARCHAR,
                        users BIGINT, set_size BIGINT, ranked BIGINT, digest DOUBLE, alike DOUBLE, lean DOUBLE, peak DOUBLE,
                        summed VARCHAR)
  WITH ('connector' = '${sink}');
INSERT INTO quantiles
SELECT page, window_start, window_end, approx_percentile(amount, 0.5),
       array_join(approx_percentile(CAST(price AS DOUBLE), ARRAY[0.0, 0.9, 1.0]), ','),
       approx_distinct(user_id, 0.05), cardinality(approx_set(user_id)), value_at_quantile(qdigest_agg(amount), 0.25),
       value_at_quantile(tdigest_agg(CAST(price AS DOUBLE)), 0.75),
       jaccard_index(make_set_digest(user_id), make_set_digest(page)), round(skewness(amount), 6), round(kurtosis(amount), 6),
       to_hex(checksum(user_id))
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY page, window_start, window_end;
