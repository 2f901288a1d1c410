-- What the stream of crimes becomes, over any form of connections. Every line is kept as it came under crimes_backup/; a
-- line that is too short, or whose time or numbers are none (NaN is none), fails here and is an error object under
-- crimes_aside/. Time and partition are of the time that was read, however many digits it came with.

INSERT INTO crimes_decoded
SELECT
    date_format(t, '%Y/%m/%d %H:%i:%s'),
    f[2],
    CAST(f[3] AS INTEGER),
    f[4],
    CAST(f[5] AS INTEGER),
    f[6],
    CAST(f[7] AS INTEGER),
    CAST(CAST(f[8] AS DECIMAL(18, 12)) AS DOUBLE),
    CAST(CAST(f[9] AS DECIMAL(18, 12)) AS DOUBLE),
    CAST(ROW(CAST(f[8] AS DOUBLE), CAST(f[9] AS DOUBLE)) AS ROW(lat DOUBLE, lon DOUBLE)),
    date_format(t, '%Y'),
    date_format(t, '%m'),
    date_format(t, '%d')
FROM (
    SELECT f, date_parse(f[1], '%Y/%m/%d %H:%i:%s') AS t
    FROM (SELECT split(line, '|') AS f FROM crime_lines) AS lines
) AS timed;
