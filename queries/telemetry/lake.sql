-- Product telemetry in the lake: the raw lines as they were sent, and two tables of delivered events.
--   headwater generate telemetry demo/raw
--   headwater run queries/telemetry/{lake,load,june}.sql --param lake=demo

CREATE EXTERNAL TABLE IF NOT EXISTS raw_events (
    name string,
    tstamp timestamp,
    payload string,
    payload_md5 string
)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
LOCATION '${lake}/raw/';

CREATE EXTERNAL TABLE IF NOT EXISTS events_json (
    tstamp timestamp,
    payload string,
    payload_md5 string
)
PARTITIONED BY (name string, d string)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
LOCATION '${lake}/events_raw/json/'
TBLPROPERTIES ('compression' = 'gzip');

CREATE EXTERNAL TABLE IF NOT EXISTS events_parquet (
    tstamp timestamp,
    payload string,
    payload_md5 string
)
PARTITIONED BY (name string, d string)
STORED AS PARQUET
LOCATION '${lake}/events_raw/parquet/'
TBLPROPERTIES ('parquet.compression' = 'gzip');
