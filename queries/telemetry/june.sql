-- Sessions that visited on each day of June 2023; --param events=events_parquet reads the other table.

WITH june_visits AS (
    SELECT *
    FROM ${events:-events_json}
    WHERE name = 'anonymous_visited'
      AND date_trunc('month', tstamp) = DATE '2023-06-01'
),
daily_sessions AS (
    SELECT DISTINCT
        date_trunc('day', tstamp) AS day,
        json_extract_scalar(payload, '$.session_id') AS session_id
    FROM june_visits
),
visits_per_day AS (
    SELECT day, count(*)
    FROM daily_sessions
    GROUP BY day
)
SELECT * FROM visits_per_day ORDER BY 1;
