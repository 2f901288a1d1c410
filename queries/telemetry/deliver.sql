-- Delivers what was sent, by kind of event and day of arrival, over either form of connections. A line
-- that is no event is a row of "events_stream_json$rejected" or "events_stream_parquet$rejected".

INSERT INTO delivered_json
SELECT tstamp, payload, payload_md5, name, date_format(arrival, '%Y-%m-%d')
FROM events_stream_json;

INSERT INTO delivered_parquet
SELECT tstamp, payload, payload_md5, name, date_format(arrival, '%Y-%m-%d')
FROM events_stream_parquet;
