-- The counts of counts.sql with no server: from a folder that is watched to a folder.
--   headwater generate engagements demo/engagements
--   headwater run queries/engagement/counts_of_files.sql --param lake=demo          (with --once: what is there, then a checkpoint)

CREATE TABLE engagements (
    post_id VARCHAR,
    engagement_type VARCHAR,
    user_id VARCHAR,
    "timestamp" TIMESTAMP(3),
    WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '5' SECOND
) WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/engagements',
    'format' = 'json',
    'source.monitor-interval' = '1 s'
);

CREATE TABLE counts (
    post_id VARCHAR,
    window_start TIMESTAMP(3),
    window_end TIMESTAMP(3),
    "engagement_counts.like" BIGINT,
    "engagement_counts.comment" BIGINT,
    "engagement_counts.share" BIGINT
) WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/counts',
    'format' = 'json'
);

INSERT INTO counts
SELECT post_id, window_start, window_end,
       count(*) FILTER (WHERE engagement_type = 'like'),
       count(*) FILTER (WHERE engagement_type = 'comment'),
       count(*) FILTER (WHERE engagement_type = 'share')
FROM TABLE(TUMBLE(TABLE engagements, DESCRIPTOR("timestamp"), INTERVAL '30' SECOND))
GROUP BY post_id, window_start, window_end;
