-- The ten busiest half minutes of any post, from what counts_of_files.sql counted.

CREATE TABLE counts (
    post_id VARCHAR,
    window_start TIMESTAMP(3),
    "engagement_counts.like" BIGINT,
    "engagement_counts.comment" BIGINT,
    "engagement_counts.share" BIGINT
) WITH ('connector' = 'filesystem', 'path' = '${lake}/counts', 'format' = 'json');

SELECT
    post_id,
    window_start,
    "engagement_counts.like" AS likes,
    "engagement_counts.comment" AS comments,
    "engagement_counts.share" AS shares
FROM counts
ORDER BY likes + comments + shares DESC, window_start, post_id
LIMIT 10;
