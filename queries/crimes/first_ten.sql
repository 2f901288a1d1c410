-- The first ten records.

SELECT crime_time, address, district, beat, description, location.lat, location.lon
FROM crimes
ORDER BY crime_time, address
LIMIT 10;
