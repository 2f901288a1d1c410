// Counts the messages of a topic and does nothing else: what librdkafka itself costs. Built by stream.py against the
// library that the Python client brings along, so the few functions used are declared here.
//
//     consume BROKERS TOPIC COUNT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_conf_s rd_kafka_conf_t;
typedef struct rd_kafka_topic_partition_list_s rd_kafka_topic_partition_list_t;
typedef struct {
  int err;
  void *topic;
  int partition;
  void *payload;
  size_t length;
} message_t;  // the first members of rd_kafka_message_t

rd_kafka_conf_t *rd_kafka_conf_new(void);
int rd_kafka_conf_set(rd_kafka_conf_t *, const char *, const char *, char *, size_t);
rd_kafka_t *rd_kafka_new(int, rd_kafka_conf_t *, char *, size_t);
int rd_kafka_poll_set_consumer(rd_kafka_t *);
rd_kafka_topic_partition_list_t *rd_kafka_topic_partition_list_new(int);
void *rd_kafka_topic_partition_list_add(rd_kafka_topic_partition_list_t *, const char *, int);
int rd_kafka_subscribe(rd_kafka_t *, const rd_kafka_topic_partition_list_t *);
message_t *rd_kafka_consumer_poll(rd_kafka_t *, int);
void rd_kafka_message_destroy(message_t *);

static void set(rd_kafka_conf_t *conf, const char *key, const char *value) {
  char error[256];
  if (rd_kafka_conf_set(conf, key, value, error, sizeof error) != 0) {
    fprintf(stderr, "%s\n", error);
    exit(1);
  }
}

int main(int count, char **words) {
  if (count != 4) return 2;
  long wanted = atol(words[3]), found = 0;
  unsigned long long bytes = 0;
  char error[256], group[64];
  snprintf(group, sizeof group, "bare-%d", getpid());
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", words[1]);
  set(conf, "group.id", group);
  set(conf, "auto.offset.reset", "earliest");
  set(conf, "enable.auto.commit", "false");
  rd_kafka_t *consumer = rd_kafka_new(1, conf, error, sizeof error);
  if (!consumer) return 1;
  rd_kafka_poll_set_consumer(consumer);
  rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(topics, words[2], -1);
  rd_kafka_subscribe(consumer, topics);
  while (found < wanted) {
    message_t *message = rd_kafka_consumer_poll(consumer, 10000);
    if (!message) return 1;
    if (message->err == 0) {
      found++;
      bytes += message->length;
    }
    rd_kafka_message_destroy(message);
  }
  printf("%ld,%llu\n", found, bytes);
  fflush(stdout);
  _exit(0);
}
