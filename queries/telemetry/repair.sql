-- Finds the folders that deliver.sql has written.

MSCK REPAIR TABLE events_json;
MSCK REPAIR TABLE events_parquet;
