-- What every query of this folder reads.
CREATE TABLE clicks (
  id BIGINT, user_id VARCHAR, page VARCHAR, amount BIGINT, price DOUBLE, cost DECIMAL(10, 2), tags ARRAY(VARCHAR),
  ts TIMESTAMP(3), PRIMARY KEY (id) NOT ENFORCED,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = '${source}');
CREATE TABLE views (
  id BIGINT, user_id VARCHAR, page VARCHAR, amount BIGINT, price DOUBLE, cost DECIMAL(10, 2), tags ARRAY(VARCHAR),
  ts TIMESTAMP(3), PRIMARY KEY (id) NOT ENFORCED,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = '${source}');
CREATE TABLE orders (
  id BIGINT, user_id VARCHAR, ts TIMESTAMP(3), PRIMARY KEY (id) NOT ENFORCED,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = '${source}');
CREATE TABLE payments (
  order_id BIGINT, amount BIGINT, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = '${source}');
CREATE TABLE cities (user_id VARCHAR, city VARCHAR)
  WITH ('connector' = 'filesystem', 'path' = '${lake}/cities', 'format' = 'parquet');
