-- Posts as they arrive, each file once: what reports need, with names without spaces, as Parquet and as items, over
-- any form of connections. The rate is computed here, and NULL where nobody was reached.

CREATE VIEW posts_clean AS
SELECT
    "Post ID" AS post_id,
    "Platform" AS platform,
    "Post Type" AS post_type,
    CAST("Post Timestamp" AS timestamp(3)) AS post_timestamp,
    "Likes" AS likes,
    "Comments" AS comments,
    "Shares" AS shares,
    "Reach" AS reach,
    CAST("Likes" + "Comments" + "Shares" AS double) / nullif("Reach", 0) AS engagement_rate
FROM posts_arriving;

INSERT INTO posts_delivered SELECT * FROM posts_clean;

INSERT INTO processed_data SELECT * FROM posts_clean;
