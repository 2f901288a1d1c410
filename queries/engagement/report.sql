-- Engagement by platform and type of post.

SELECT
    platform,
    post_type,
    count(*) AS posts,
    sum(likes + comments + shares) AS engagements,
    round(avg(engagement_rate), 4) AS engagement_rate
FROM posts_processed
GROUP BY platform, post_type
ORDER BY platform, post_type;
