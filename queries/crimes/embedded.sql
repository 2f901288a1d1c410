-- The connections without a server: a memory log stands for the stream, send.sql puts files on it.
--   headwater generate crimes --format stream demo/crimes_lines
--   headwater run queries/crimes/{embedded,tables,send,decode}.sql --param lake=demo

CREATE TABLE crime_stream
WITH ('connector' = 'memory', 'name' = 'crimes', 'log.path' = '${lake}/.streams', 'format' = 'raw');
