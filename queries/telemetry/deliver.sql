-- Delivers what was sent, by kind of event and day of arrival, over any form of connections. A line that is no event,
-- or has no name, is an error object under errors/.

INSERT INTO delivered_json
SELECT tstamp, payload, payload_md5, name FROM events_stream_json;

INSERT INTO delivered_parquet
SELECT tstamp, payload, payload_md5 FROM events_stream_parquet;
