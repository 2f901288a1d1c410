-- Likes, comments and shares of each post in windows of 30 seconds, from one topic to another, exactly once.
-- headwater run queries/engagement/counts.sql --param brokers=localhost:9092
CREATE TABLE engagements (
  post_id VARCHAR, engagement_type VARCHAR, user_id VARCHAR, "timestamp" TIMESTAMP(3),
  part INT METADATA FROM 'partition' VIRTUAL, off BIGINT METADATA FROM 'offset' VIRTUAL,
  WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka', 'topic' = 'engagements', 'properties.bootstrap.servers' = '${brokers}',
  'scan.startup.mode' = 'earliest-offset', 'scan.watermark.idle-timeout' = '10 s', 'format' = 'json'
);
CREATE TABLE counts (
  post_id VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3),
  "engagement_counts.like" BIGINT, "engagement_counts.comment" BIGINT, "engagement_counts.share" BIGINT
) WITH (
  'connector' = 'kafka', 'topic' = 'counts', 'properties.bootstrap.servers' = '${brokers}',
  'format' = 'json', 'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = 'counts'
);
INSERT INTO counts
SELECT post_id, window_start, window_end,
       count(*) FILTER (WHERE engagement_type = 'like'),
       count(*) FILTER (WHERE engagement_type = 'comment'),
       count(*) FILTER (WHERE engagement_type = 'share')
FROM TABLE(TUMBLE(TABLE engagements, DESCRIPTOR("timestamp"), INTERVAL '30' SECOND))
GROUP BY post_id, window_start, window_end;
