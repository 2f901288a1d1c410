-- The ten busiest half minutes of any post, from what count.sql counted, over any form of connections.

SELECT
    post_id,
    window_start,
    coalesce("engagement_counts.like", 0) AS likes,
    coalesce("engagement_counts.comment", 0) AS comments,
    coalesce("engagement_counts.share", 0) AS shares
FROM processed_stream
ORDER BY likes + comments + shares DESC, window_start, post_id
LIMIT 10;
