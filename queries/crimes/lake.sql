-- Crime records as they were decoded (JSON with a nested location), and as they are queried (Parquet by day).
--   headwater generate crimes --format ndjson demo/crimes_raw
--   headwater run queries/crimes/{lake,to_parquet,first_ten}.sql --param lake=demo

CREATE EXTERNAL TABLE IF NOT EXISTS crimes_raw (
    crime_time string,
    address string,
    district int,
    beat string,
    grid int,
    description string,
    crime_id int,
    latitude double,
    longitude double,
    location struct<lat:double,lon:double>,
    crime_year string,
    crime_month string,
    crime_day string
)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
LOCATION '${lake}/crimes_raw/';

CREATE EXTERNAL TABLE IF NOT EXISTS crimes (
    crime_time string,
    address string,
    district int,
    beat string,
    grid int,
    description string,
    crime_id int,
    latitude double,
    longitude double,
    location struct<lat:double,lon:double>
)
PARTITIONED BY (crime_year string, crime_month string, crime_day string)
STORED AS PARQUET
LOCATION '${lake}/crimes/';
