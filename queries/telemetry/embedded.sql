-- The connections without a server: one memory log stands for what clients send to both delivery streams, send.sql puts
-- files on it.
--   headwater generate telemetry demo/raw
--   headwater run queries/telemetry/{embedded,tables,send,deliver}.sql --param lake=demo

CREATE TABLE delivery_streams
WITH ('connector' = 'memory', 'name' = 'events', 'log.path' = '${lake}/.streams', 'format' = 'json');
