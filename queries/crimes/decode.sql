-- What the stream of crimes becomes, over any form of connections. Every line is kept as it came under crimes_backup/; a
-- line that is too short, or whose numbers are none, fails here and is an error object under crimes_aside/.

INSERT INTO crimes_decoded
SELECT
    f[1],
    f[2],
    CAST(f[3] AS INTEGER),
    f[4],
    CAST(f[5] AS INTEGER),
    f[6],
    CAST(f[7] AS INTEGER),
    CAST(f[8] AS DOUBLE),
    CAST(f[9] AS DOUBLE),
    CAST(ROW(CAST(f[8] AS DOUBLE), CAST(f[9] AS DOUBLE)) AS ROW(lat DOUBLE, lon DOUBLE)),
    substr(f[1], 1, 4),
    substr(f[1], 6, 2),
    substr(f[1], 9, 2)
FROM (SELECT split(line, '|') AS f FROM crime_lines) AS lines;
