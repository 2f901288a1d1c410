-- What was delivered into streamed/, over both formats: the folders are found, then counted, with and without what was sent twice.

CREATE EXTERNAL TABLE IF NOT EXISTS streamed_json (
    tstamp timestamp,
    payload string,
    payload_md5 string
)
PARTITIONED BY (name string, d string)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
LOCATION '${lake}/streamed/events_raw/json/';

CREATE EXTERNAL TABLE IF NOT EXISTS streamed_parquet (
    tstamp timestamp,
    payload string,
    payload_md5 string
)
PARTITIONED BY (name string, d string)
STORED AS PARQUET
LOCATION '${lake}/streamed/events_raw/parquet/';

MSCK REPAIR TABLE streamed_json;
MSCK REPAIR TABLE streamed_parquet;

SELECT
    j.name,
    j.events AS json_events,
    p.events AS parquet_events,
    p.distinct_events
FROM (SELECT name, count(*) AS events FROM streamed_json GROUP BY name) AS j
JOIN (
    SELECT name, count(*) AS events, count(DISTINCT payload_md5) AS distinct_events
    FROM streamed_parquet
    GROUP BY name
) AS p ON p.name = j.name
ORDER BY j.name;
