-- The schema stays as it is, the struct too; the day of the crime becomes its folder.

INSERT OVERWRITE crimes
SELECT
    crime_time, address, district, beat, grid, description, crime_id, latitude, longitude, location,
    crime_year, crime_month, crime_day
FROM crimes_raw;
