CREATE TABLE tagged (id BIGINT, tag VARCHAR, place BIGINT) WITH ('connector' = '${sink}');
CREATE TABLE tag_counts (tag VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3), n BIGINT) WITH ('connector' = '${sink}');
INSERT INTO tagged SELECT id, tag, place FROM clicks CROSS JOIN UNNEST(tags) WITH ORDINALITY AS t (tag, place) WHERE tag <> 't3';
INSERT INTO tag_counts SELECT tag, window_start, window_end, count(*)
  FROM TABLE(TUMBLE((SELECT ts, tag FROM clicks CROSS JOIN UNNEST(tags) AS t (tag)), DESCRIPTOR(ts), INTERVAL '30' SECOND))
  GROUP BY tag, window_start, window_end;
