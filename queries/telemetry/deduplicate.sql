-- Every event once, however often it was sent: what has the same payload_md5 is the same event.

CREATE TABLE events_distinct
WITH (format = 'PARQUET', external_location = '${lake}/events_distinct/', partitioned_by = ARRAY['name'])
AS
SELECT
    min(tstamp) AS tstamp,
    min(payload) AS payload,
    payload_md5,
    name
FROM ${events:-events_json}
GROUP BY payload_md5, name;

SELECT
    (SELECT count(*) FROM ${events:-events_json}) AS sent,
    (SELECT count(*) FROM events_distinct) AS distinct_events;
