-- Delivers the raw lines into both tables, one folder for each kind of event and day of delivery. Loading a day again
-- replaces it.

INSERT OVERWRITE events_json
SELECT tstamp, payload, payload_md5, name, '${d:-2023-07-16}' AS d
FROM raw_events;

INSERT OVERWRITE events_parquet
SELECT tstamp, payload, payload_md5, name, '${d:-2023-07-16}' AS d
FROM raw_events;
