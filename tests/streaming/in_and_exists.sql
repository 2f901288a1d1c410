-- IN and EXISTS over a folder are looked up; over another stream rows come out once their key is there.
CREATE TABLE known (id BIGINT) WITH ('connector' = '${sink}');
CREATE TABLE unknown (id BIGINT) WITH ('connector' = '${sink}');
CREATE TABLE paid (id BIGINT, user_id VARCHAR) WITH ('connector' = '${sink}');
CREATE TABLE unpaid (id BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = '${sink}');
CREATE TABLE dear (id BIGINT) WITH ('connector' = '${sink}');
INSERT INTO known SELECT id FROM clicks WHERE user_id IN (SELECT user_id FROM cities WHERE city <> 'Rome');
INSERT INTO unknown SELECT id FROM clicks k WHERE NOT EXISTS (SELECT 1 FROM cities c WHERE c.user_id = k.user_id);
INSERT INTO paid SELECT id, user_id FROM orders WHERE id IN (SELECT order_id FROM payments WHERE amount > 100);
INSERT INTO unpaid SELECT id FROM orders o WHERE NOT EXISTS (SELECT 1 FROM payments p WHERE p.order_id = o.id);
INSERT INTO dear SELECT id FROM clicks WHERE amount > (SELECT count(*) * 20 FROM cities);
