-- Keeps every event and counts each post's engagements in windows of 30 seconds, over any form of connections. A
-- repeated window writes the same numbers again; a kind that did not occur is absent.

INSERT INTO engagement_raw
SELECT
    post_id, engagement_type, user_id, "timestamp",
    date_format(arrival, '%Y'), date_format(arrival, '%m'), date_format(arrival, '%d'), date_format(arrival, '%H')
FROM engagement_events;

INSERT INTO processed_stream
SELECT
    post_id,
    window_start,
    window_end,
    nullif(count(*) FILTER (WHERE engagement_type = 'like'), 0),
    nullif(count(*) FILTER (WHERE engagement_type = 'comment'), 0),
    nullif(count(*) FILTER (WHERE engagement_type = 'share'), 0)
FROM TABLE(TUMBLE(TABLE engagement_events, DESCRIPTOR(engaged_at), INTERVAL '30' SECOND))
GROUP BY post_id, window_start, window_end;
