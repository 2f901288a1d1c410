-- The engagements that were counted, by platform and type of the posts they were on: ProcessedStream joined with
-- ProcessedData, over any form of connections.

SELECT
    d.platform,
    d.post_type,
    count(DISTINCT s.post_id) AS posts,
    sum(coalesce(s."engagement_counts.like", 0)) AS likes,
    sum(coalesce(s."engagement_counts.comment", 0)) AS comments,
    sum(coalesce(s."engagement_counts.share", 0)) AS shares,
    round(avg(d.engagement_rate), 4) AS engagement_rate
FROM processed_stream s
JOIN processed_data d ON d.post_id = s.post_id
GROUP BY d.platform, d.post_type
ORDER BY d.platform, d.post_type;
