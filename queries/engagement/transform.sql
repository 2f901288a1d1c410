-- Keeps what reports need, with names without spaces; the rate is computed here, and NULL where nobody was reached.

INSERT OVERWRITE posts_processed
SELECT
    "post id",
    platform,
    "post type",
    CAST("post timestamp" AS timestamp),
    likes,
    comments,
    shares,
    reach,
    CAST(likes + comments + shares AS double) / nullif(reach, 0)
FROM raw_data.posts;
