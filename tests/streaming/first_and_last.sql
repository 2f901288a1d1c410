-- Deduplication: the first and the last row of a key, from one source.
CREATE TABLE firsts (page VARCHAR, id BIGINT, ts TIMESTAMP(3), PRIMARY KEY (page) NOT ENFORCED) WITH ('connector' = '${sink}');
CREATE TABLE lasts (page VARCHAR, id BIGINT, ts TIMESTAMP(3), PRIMARY KEY (page) NOT ENFORCED) WITH ('connector' = '${sink}');
EXECUTE STATEMENT SET BEGIN
INSERT INTO firsts SELECT page, id, ts
  FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY page ORDER BY ts, id) AS rn FROM clicks) WHERE rn = 1;
INSERT INTO lasts SELECT page, id, ts
  FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY page ORDER BY ts DESC, id) AS rn FROM clicks) WHERE rn = 1;
END;
