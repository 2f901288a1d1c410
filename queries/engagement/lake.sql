-- Social-media posts as they arrive (CSV), and as reports read them (Parquet).
--   headwater generate posts demo/rawData/posts
--   headwater run queries/engagement/{lake,transform,report}.sql --param lake=demo

CREATE DATABASE IF NOT EXISTS raw_data;

CREATE EXTERNAL TABLE IF NOT EXISTS raw_data.posts (
    `platform` string,
    `post id` string,
    `post type` string,
    `post content` string,
    `post timestamp` string,
    `likes` bigint,
    `comments` bigint,
    `shares` bigint,
    `impressions` bigint,
    `reach` bigint,
    `engagement rate` double,
    `audience age` bigint,
    `audience gender` string,
    `audience location` string,
    `audience interests` string,
    `campaign id` string,
    `sentiment` string,
    `influencer id` string
)
STORED AS CSV
LOCATION '${lake}/rawData/posts/'
TBLPROPERTIES ('csv.header' = 'true');

CREATE EXTERNAL TABLE IF NOT EXISTS posts_processed (
    post_id string,
    platform string,
    post_type string,
    post_timestamp timestamp,
    likes bigint,
    comments bigint,
    shares bigint,
    reach bigint,
    engagement_rate double
)
STORED AS PARQUET
LOCATION '${lake}/processedData/posts_processed/';
