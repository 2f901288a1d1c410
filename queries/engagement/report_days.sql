-- Engagement over time, on the days from one on, for the platforms that match.

SELECT
    date_trunc('day', post_timestamp) AS day,
    count(*) AS posts,
    sum(likes + comments + shares) AS engagements,
    round(avg(engagement_rate), 4) AS engagement_rate
FROM posts_processed
WHERE platform LIKE '${platform:-%}' AND post_timestamp >= TIMESTAMP '${from:-2000-01-01} 00:00:00'
GROUP BY 1
ORDER BY 1;
