-- The connections without a server: a memory log stands for each stream, send.sql puts files on that of crimes.
--   headwater generate crimes --format stream demo/crimes_lines
--   headwater run queries/crimes/{embedded,tables,send,decode}.sql --param lake=demo

CREATE TABLE crime_stream
WITH ('connector' = 'memory', 'name' = 'crimes', 'log.path' = '${lake}/.streams', 'format' = 'raw');

CREATE TABLE app_stream
WITH ('connector' = 'memory', 'name' = 'app_events', 'log.path' = '${lake}/.streams', 'format' = 'json');
