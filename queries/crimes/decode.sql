-- What the stream of crimes becomes, over either form of connections. A line that is too short, or whose numbers are
-- none, is set aside as it came; every line is kept in the backup.

INSERT INTO crimes_backup SELECT line FROM crime_lines;

INSERT INTO crimes_decoded
SELECT
    element_at(f, 1),
    element_at(f, 2),
    TRY_CAST(element_at(f, 3) AS INTEGER),
    element_at(f, 4),
    TRY_CAST(element_at(f, 5) AS INTEGER),
    element_at(f, 6),
    TRY_CAST(element_at(f, 7) AS INTEGER),
    TRY_CAST(element_at(f, 8) AS DOUBLE),
    TRY_CAST(element_at(f, 9) AS DOUBLE),
    CAST(ROW(TRY_CAST(element_at(f, 8) AS DOUBLE), TRY_CAST(element_at(f, 9) AS DOUBLE)) AS ROW(lat DOUBLE, lon DOUBLE)),
    substr(element_at(f, 1), 1, 4),
    substr(element_at(f, 1), 6, 2),
    substr(element_at(f, 1), 9, 2)
FROM (SELECT split(line, '|') AS f FROM crime_lines) AS lines
WHERE TRY_CAST(element_at(f, 3) AS INTEGER) IS NOT NULL
  AND TRY_CAST(element_at(f, 5) AS INTEGER) IS NOT NULL
  AND TRY_CAST(element_at(f, 7) AS INTEGER) IS NOT NULL
  AND TRY_CAST(element_at(f, 8) AS DOUBLE) IS NOT NULL
  AND TRY_CAST(element_at(f, 9) AS DOUBLE) IS NOT NULL;

INSERT INTO crimes_aside
SELECT line
FROM (SELECT line, split(line, '|') AS f FROM crime_lines) AS lines
WHERE TRY_CAST(element_at(f, 3) AS INTEGER) IS NULL
   OR TRY_CAST(element_at(f, 5) AS INTEGER) IS NULL
   OR TRY_CAST(element_at(f, 7) AS INTEGER) IS NULL
   OR TRY_CAST(element_at(f, 8) AS DOUBLE) IS NULL
   OR TRY_CAST(element_at(f, 9) AS DOUBLE) IS NULL;
