#!/usr/bin/env python3
"""Headwater's jobs on 5,000,000 events of 141 bytes, beside engines that do the same or a part of it.

    cargo build --release
    tests/bench/stream.py [--runs 5] [--only file|kafka|latency|restart] [--headwater target/release/headwater] [--work DIR]

`file` and `kafka`: three of seven fields, a count and a sum in ten-second windows per kind (6 keys) and per user (a million
keys), exactly once into files or into another topic, a checkpoint every ten seconds, on one core. A run ends when all
that was there at its start is read, delivered and checkpointed (`--once`). Beside the file job runs DataFusion's own
batch plan over the same files; beside the Kafka job a C program that takes the messages from librdkafka and drops them.
`latency`: from a producer's send to a read-committed consumer's receipt through a job that passes rows on, at checkpoint
intervals of a second and at-least-once; and of windows of a second, from the send of the row whose time ends one. `restart`: from the start of the process to the first committed row of a job
that comes back with a million open windows.

`--flink DIR` adds Flink to `file` and to `kafka`: a folder in which `pip install --no-deps --target DIR
apache-flink==2.2.1 apache-flink-libraries==2.2.1` put the distribution and `mvn dependency:copy
-Dartifact=org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2 -DoutputDirectory=DIR/pyflink/lib` its Kafka connector.
It runs in one process of one task, with the same checkpoint interval and guarantee; what it delivers is compared too.

Every figure is the median of the runs, which take turns; CPU is user plus system time of the whole process, memory its
largest resident set. Answers are compared. The Kafka broker is the one the tests of services install.
"""

import argparse
import collections
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import lake

KEYS = {"few": "kind", "million": '"user"'}
PARTITIONS = 4
PORT = 9392

SOURCE = """CREATE TABLE events (ts TIMESTAMP(3), kind VARCHAR, "user" VARCHAR, amount DOUBLE,
    WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ({options});"""
SINK = """CREATE TABLE counts (k VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3), n BIGINT, total DOUBLE)
    WITH ({options});"""
COUNT = """INSERT INTO counts SELECT {key}, window_start, window_end, count(*), sum(amount)
    FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL {window}))
    GROUP BY {key}, window_start, window_end;"""


class Broker:
    """The real broker in a folder of its own, stopped at the end."""

    def __init__(self, work):
        library = work.parent / "services" / "kafka-4.2.0" / "lib"
        if not library.exists():
            sys.exit(f"no Kafka in {library}: run the tests of services once")
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=work))
        config = self.folder / "broker.properties"
        config.write_text("\n".join([
            "process.roles=broker,controller", "node.id=1", f"controller.quorum.voters=1@127.0.0.1:{PORT + 1}",
            f"listeners=PLAINTEXT://127.0.0.1:{PORT},CONTROLLER://127.0.0.1:{PORT + 1}",
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{PORT}", "controller.listener.names=CONTROLLER",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT", f"log.dirs={self.folder}/logs",
            "group.initial.rebalance.delay.ms=0", "offsets.topic.replication.factor=1", "offsets.topic.num.partitions=4",
            "transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1",
            "transaction.state.log.num.partitions=4", "auto.create.topics.enable=false", ""]))
        java = ["java", "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", f"{library}/*"]
        tool = [*java, "kafka.tools.StorageTool"]
        identity = subprocess.run([*tool, "random-uuid"], capture_output=True, text=True, check=True).stdout.split()[-1]
        subprocess.run([*tool, "format", "-t", identity, "-c", config], check=True, stdout=subprocess.DEVNULL)
        self.child = subprocess.Popen([*java, "kafka.Kafka", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.address = f"127.0.0.1:{PORT}"

    def stop(self):
        self.child.terminate()
        self.child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


PRODUCE = """
import json, pathlib, sys, time
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
brokers, topic, partitions, files = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
admin = AdminClient({"bootstrap.servers": brokers})
for _ in range(60):
    try:
        admin.list_topics(timeout=5)
        break
    except Exception:
        time.sleep(1)
for name, count in ((topic, partitions), (topic + "-out", 1)):
    for future in admin.create_topics([NewTopic(name, num_partitions=count, replication_factor=1)]).values():
        try:
            future.result()
        except Exception as error:
            if "already exists" not in str(error): raise
producer = Producer({"bootstrap.servers": brokers, "linger.ms": 50, "batch.size": 1000000, "queue.buffering.max.messages": 1000000})
at = 0
for file in files:
    for line in pathlib.Path(file).read_bytes().splitlines():
        while True:
            try:
                producer.produce(topic, line, partition=at // 100 % partitions)
                break
            except BufferError:
                producer.poll(0.1)
        at += 1
        if at % 10000 == 0:
            producer.poll(0)
producer.flush()
"""

COLLECT = """
import sys
from confluent_kafka import Consumer, TopicPartition
brokers, topic = sys.argv[1:3]
consumer = Consumer({"bootstrap.servers": brokers, "group.id": "collect", "isolation.level": "read_committed", "enable.partition.eof": True})
consumer.assign([TopicPartition(topic, 0, 0)])
while True:
    message = consumer.poll(10)
    if message is None or message.error():
        break
    print(message.value().decode())
"""

LATENCY = """
import json, statistics, sys, threading, time
from confluent_kafka import Consumer, Producer, TopicPartition
brokers, topic, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
consumer = Consumer({"bootstrap.servers": brokers, "group.id": "latency", "isolation.level": "read_committed",
                     "fetch.wait.max.ms": 5, "auto.offset.reset": "latest"})
low, high = consumer.get_watermark_offsets(TopicPartition(topic + "-out", 0), timeout=10)
consumer.assign([TopicPartition(topic + "-out", 0, high)])
found, stop = [], time.time() + seconds
def produce():
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})
    while time.time() < stop:
        producer.produce(topic, json.dumps({"sent": time.time()}))
        producer.poll(0)
        time.sleep(0.05)
    producer.flush()
thread = threading.Thread(target=produce)
thread.start()
while time.time() < stop + 4:
    message = consumer.poll(0.1)
    if message is not None and not message.error():
        found.append(time.time() - float(json.loads(message.value())["sent"]))
thread.join()
found.sort()
print(len(found), statistics.median(found), found[int(len(found) * 0.99)], found[-1])
"""


WINDOWS = """
import datetime, json, statistics, sys, threading, time
from confluent_kafka import Consumer, Producer, TopicPartition
brokers, topic, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
consumer = Consumer({"bootstrap.servers": brokers, "group.id": "windows", "isolation.level": "read_committed",
                     "fetch.wait.max.ms": 5, "auto.offset.reset": "latest"})
low, high = consumer.get_watermark_offsets(TopicPartition(topic + "-out", 0), timeout=10)
consumer.assign([TopicPartition(topic + "-out", 0, high)])
ended, found, stop = {}, [], time.time() + seconds
def text(at):
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
def produce():
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})
    while (now := time.time()) < stop:
        ended.setdefault(text(int(now))[:19], now)
        producer.produce(topic, json.dumps({"ts": text(now)}))
        producer.poll(0)
        time.sleep(0.05)
    producer.flush()
thread = threading.Thread(target=produce)
thread.start()
while time.time() < stop + 2:
    message = consumer.poll(0.1)
    if message is not None and not message.error():
        sent = ended.get(str(json.loads(message.value())["window_end"]).replace("T", " ")[:19])
        if sent is not None:
            found.append(time.time() - sent)
thread.join()
found.sort()
print(len(found), statistics.median(found), found[int(len(found) * 0.99)], found[-1])
"""


def peers(work):
    """The Python of the peers, with a Kafka client."""
    python = lake.peers(work)
    subprocess.run([python, "-m", "pip", "install", "-q", "confluent-kafka==2.12.2"], check=True)
    return python


def options(**values):
    return ", ".join(f"'{key}' = '{value}'" for key, value in values.items())


def kafka_options(broker, topic, **more):
    return options(**{"connector": "kafka", "topic": topic, "properties.bootstrap.servers": broker.address, "format": "json", **more})


def totals(rows):
    """What a run delivered: how many rows, how many events they count, and their sum."""
    lines, count, total = 0, 0, 0.0
    for row in rows:
        lines, count, total = lines + 1, count + row["n"], total + row["total"]
    return lines, count, round(total)


def delivered(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and not any(part[0] in "_." for part in path.relative_to(folder).parts)]
    return totals(json.loads(line) for path in files for line in path.read_text().splitlines())


def job(args, work, script, core):
    """Runs a job to its end, with a state of its own."""
    state = pathlib.Path(tempfile.mkdtemp(dir=work))
    file = state / "job.sql"
    file.write_text(script)
    try:
        return lake.measure([args.headwater, "--state", str(state / "state"), "run", str(file), "--once"], core)
    finally:
        shutil.rmtree(state, ignore_errors=True)


def show(title, found, events):
    print(f"\n{title}")
    medians = {}
    for name, runs in found.items():
        cpu = medians[name] = statistics.median(run["cpu"] for run in runs)
        print(f"  {name:<11} wall {statistics.median(run['wall'] for run in runs):6.2f} s   cpu {cpu:6.2f} s   "
              f"peak {max(run['mb'] for run in runs):5.0f} MB   {events / cpu / 1e6:5.2f} M events per CPU-second", flush=True)
    return medians


def agree(title, runs, events):
    """Every run delivered the same, and counted every event once but those of the last windows, which stay open."""
    closed = [-(-second * 1000 * events // 3600_000) for second in (3590, 3580)]
    if len(set(runs)) != 1 or runs[0][1] not in closed:
        sys.exit(f"{title}: delivered (rows, events, sum) {sorted(set(runs))}, not {closed} events")
    return runs[0][0]


def files(args, python, work):
    home = work / "window"
    lake.generate_events(home, args.events)
    core = max(os.sched_getaffinity(0))
    table = "CREATE EXTERNAL TABLE events (ts TIMESTAMP, kind VARCHAR, amount DOUBLE) STORED AS JSON " \
            f"LOCATION '{home}/ndjson/'"
    for keys, key in KEYS.items():
        found, answers = collections.defaultdict(list), []
        for _ in range(args.runs):
            out = pathlib.Path(tempfile.mkdtemp(dir=work))
            script = SOURCE.format(options=options(connector="filesystem", path=home / "ndjson", format="json")) \
                + SINK.format(options=options(connector="filesystem", path=out, format="json")) \
                + COUNT.format(key=key, window="'10' SECOND")
            found["headwater"].append(job(args, work, script, core))
            answers.append(delivered(out))
            shutil.rmtree(out)
            if keys == "few":
                found["datafusion"].append(lake.measure(
                    [python, "-c", lake.DATAFUSION, lake.WINDOW["datafusion"], "1", json.dumps(table)], core))
            if args.flink and keys == "few":
                found["flink"].append(flink_file(args, work, home, core))
        rows = agree(f"file, {keys}", answers, args.events)
        medians = show(f"file, {keys} keys: {rows} rows", found, args.events)
        if keys == "few":
            lake.bar("file: times DataFusion's batch plan, at least", medians["datafusion"] / medians["headwater"],
                     1.0, at_least=True)
            lake.bar("file: resident MB", max(run["mb"] for run in found["headwater"]), 200)


FLINK = """
import org.apache.flink.table.api.*;
public class Run {
    public static void main(String[] files) throws Exception {
        TableEnvironment tables = TableEnvironment.create(EnvironmentSettings.inStreamingMode());
        tables.getConfig().set("parallelism.default", "1");
        tables.getConfig().set("execution.checkpointing.interval", "10 s");
        for (String statement : java.nio.file.Files.readString(java.nio.file.Path.of(files[0])).split(";"))
            if (!statement.isBlank()) tables.executeSql(statement).await();
    }
}
"""


def flink_run(args, work, script, core):
    """Runs a script in Flink SQL, in one process."""
    lib = pathlib.Path(args.flink) / "pyflink" / "lib"
    folder = work / "flink"
    folder.mkdir(exist_ok=True)
    jars = ":".join(str(jar) for jar in sorted(lib.glob("*.jar")))
    (folder / "Run.java").write_text(FLINK)
    subprocess.run(["javac", "-cp", jars, "-d", folder, folder / "Run.java"], check=True)
    (folder / "job.sql").write_text(script.replace('"', "`").replace("VARCHAR", "STRING"))
    opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.util", "java.lang", "java.time")]
    return lake.measure(["java", "-Xmx1g", *opened, "-cp", f"{jars}:{folder}", "Run", folder / "job.sql"], core)


def flink_file(args, work, home, core):
    """The job over files; how many rows it delivered is not compared."""
    out = work / "flink" / "out"
    shutil.rmtree(out, ignore_errors=True)
    source = SOURCE.format(options=options(connector="filesystem", path=home / "ndjson", format="json"))
    # It reads the files in no order, and would drop most rows as late.
    source = source.replace("'5' SECOND", "'2' HOUR")
    sink = SINK.format(options=options(connector="filesystem", path=out, format="json"))
    return flink_run(args, work, source + sink + COUNT.format(key="kind", window="'10' SECOND"), core)


def flink_kafka(args, python, work, broker, key, out, core):
    """The job over the topic, to where it ended at the start; it then closes the last windows too."""
    subprocess.run([python, "-c", PRODUCE, broker.address, out, "1"], check=True)
    read = {"scan.startup.mode": "earliest-offset", "scan.bounded.mode": "latest-offset", "properties.group.id": out}
    write = {"sink.delivery-guarantee": "exactly-once", "sink.transactional-id-prefix": out,
             "properties.transaction.timeout.ms": "600000"}
    script = SOURCE.format(options=kafka_options(broker, "events", **read)) \
        + SINK.format(options=kafka_options(broker, f"{out}-out", **write)) + COUNT.format(key=key, window="'10' SECOND")
    run = flink_run(args, work, script, core)
    _, count, _ = collected(python, broker, f"{out}-out")
    if count != args.events:
        sys.exit(f"flink counted {count} events of {args.events}")
    return run


def kafka(args, python, work, broker):
    home = work / "window"
    lake.generate_events(home, args.events)
    parts = [home / "ndjson" / f"part-{part}.json" for part in range(lake.FILES)]
    subprocess.run([python, "-c", PRODUCE, broker.address, "events", str(PARTITIONS), *map(str, parts)], check=True)
    bare = build_consumer(python, work)
    core = max(os.sched_getaffinity(0))
    for keys, key in KEYS.items():
        found, answers = collections.defaultdict(list), []
        for run in range(args.runs):
            out = f"counts-{keys}-{run}"
            subprocess.run([python, "-c", PRODUCE, broker.address, out, "1"], check=True)
            script = SOURCE.format(options=kafka_options(broker, "events", **{"scan.startup.mode": "earliest-offset"})) \
                + SINK.format(options=kafka_options(broker, out, **{
                    "sink.delivery-guarantee": "exactly-once", "sink.transactional-id-prefix": out})) \
                + COUNT.format(key=key, window="'10' SECOND")
            found["headwater"].append(job(args, work, script, core))
            found["librdkafka"].append(lake.measure([bare, broker.address, "events", str(args.events)], core))
            answers.append(collected(python, broker, out))
            if args.flink:
                found["flink"].append(flink_kafka(args, python, work, broker, key, f"flink-{keys}-{run}", core))
        rows = agree(f"kafka, {keys}", answers, args.events)
        medians = show(f"kafka, {keys} keys: {rows} rows", found, args.events)
        if keys == "few":
            lake.bar("kafka: of what librdkafka alone does, at least", medians["librdkafka"] / medians["headwater"],
                     0.6, at_least=True)
            lake.bar("kafka: resident MB", max(run["mb"] for run in found["headwater"]), 200)
            if args.flink:
                lake.bar("kafka: times Flink, at least", medians["flink"] / medians["headwater"], 5.0, at_least=True)


def collected(python, broker, topic):
    """What is committed in a topic of one partition."""
    text = subprocess.run([python, "-c", COLLECT, broker.address, topic], check=True, capture_output=True, text=True)
    return totals(map(json.loads, text.stdout.splitlines()))


def build_consumer(python, work):
    """The bare consumer, linked with the library of the Python client."""
    site = subprocess.run([python, "-c", "import confluent_kafka; print(confluent_kafka.__file__)"],
                          check=True, capture_output=True, text=True).stdout.strip()
    libraries = pathlib.Path(site).parents[1] / "confluent_kafka.libs"
    library = next(libraries.glob("librdkafka*.so*"))
    program = work / "consume"
    source = pathlib.Path(__file__).with_name("consume.c")
    subprocess.run(["cc", "-O2", source, library, f"-Wl,-rpath,{libraries}", "-Wl,--allow-shlib-undefined", "-o", program], check=True)
    return str(program)


def while_running(args, python, work, sql, probe, *given):
    """What a probe prints, as numbers, while a job from this SQL runs."""
    state = pathlib.Path(tempfile.mkdtemp(dir=work))
    (state / "job.sql").write_text(sql)
    child = subprocess.Popen([args.headwater, "--state", str(state / "state"), "run", str(state / "job.sql")],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(3)
        text = subprocess.run([python, "-c", probe, *given], check=True, capture_output=True, text=True)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()
        shutil.rmtree(state, ignore_errors=True)
    return map(float, text.stdout.split())


def latency(args, python, work, broker):
    passing = """CREATE TABLE incoming (sent DOUBLE) WITH ({source});
        CREATE TABLE passed (sent DOUBLE) WITH ({sink});
        SET 'checkpoint.interval' = '1 s';
        INSERT INTO passed SELECT sent FROM incoming;"""
    for guarantee, limit in (("exactly-once", 1.5), ("at-least-once", 0.1)):
        topic = f"latency-{guarantee}"
        subprocess.run([python, "-c", PRODUCE, broker.address, topic, "1"], check=True)
        sink = {"sink.delivery-guarantee": guarantee}
        if guarantee == "exactly-once":
            sink["sink.transactional-id-prefix"] = topic
        sql = passing.format(source=kafka_options(broker, topic, **{"scan.startup.mode": "earliest-offset"}),
                             sink=kafka_options(broker, f"{topic}-out", **sink))
        count, median, most, longest = while_running(args, python, work, sql, LATENCY, broker.address, topic, "20")
        print(f"\nlatency, {guarantee}: {count:.0f} rows, median {median * 1000:.0f} ms, 99 % {most * 1000:.0f} ms, "
              f"longest {longest * 1000:.0f} ms")
        lake.bar(f"latency {guarantee}: seconds of 99 %, at most", most, limit)


def windows(args, python, work, broker):
    """Windows of a second of one partition, sent on at least once; with and without waiting for new partitions."""
    counting = """CREATE TABLE incoming (ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ({source});
        CREATE TABLE counted (window_end TIMESTAMP(3), n BIGINT) WITH ({sink});
        INSERT INTO counted SELECT window_end, count(*)
        FROM TABLE(TUMBLE(TABLE incoming, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY window_start, window_end;"""
    for interval in ("0 s", "1 s"):
        topic = f"windows-{interval[0]}"
        subprocess.run([python, "-c", PRODUCE, broker.address, topic, "1"], check=True)
        more = {"scan.startup.mode": "earliest-offset", "scan.topic-partition-discovery.interval": interval}
        sql = counting.format(source=kafka_options(broker, topic, **more),
                              sink=kafka_options(broker, f"{topic}-out", **{"sink.delivery-guarantee": "at-least-once"}))
        count, median, most, longest = while_running(args, python, work, sql, WINDOWS, broker.address, topic, "30")
        print(f"\nlatency of windows, new partitions looked for every {interval}: {count:.0f} windows, "
              f"median {median * 1000:.0f} ms, longest {longest * 1000:.0f} ms")
        if interval == "0 s":
            lake.bar("latency of windows: seconds of 99 %, at most", most, 0.1)


def restart(args, python, work, broker):
    """A million keys in one open window, a stop with its checkpoint, and back again until a new row closes the window."""
    topic = "restart"
    home = work / "restart"
    home.mkdir(exist_ok=True)
    first, last = home / "first.json", home / "last.json"
    first.write_text("".join(
        f'{{"ts":"2023-06-01 00:00:{at % 50:02d}","kind":"k","user":"u{at}","amount":1.5}}\n' for at in range(1_000_000)))
    last.write_text("".join('{"ts":"2023-06-01 03:00:00","kind":"k","user":"u","amount":1}\n' for _ in range(100 * PARTITIONS)))
    send = lambda file: subprocess.run([python, "-c", PRODUCE, broker.address, topic, str(PARTITIONS), str(file)], check=True)
    send(first)
    state = pathlib.Path(tempfile.mkdtemp(dir=work))
    (state / "job.sql").write_text(
        SOURCE.format(options=kafka_options(broker, topic, **{"scan.startup.mode": "earliest-offset"}))
        + SINK.format(options=kafka_options(broker, f"{topic}-out", **{"sink.delivery-guarantee": "at-least-once"}))
        + COUNT.format(key='"user"', window="'1' HOUR"))
    command = [args.headwater, "--state", str(state / "state"), "run", str(state / "job.sql")]
    lake.measure([*command, "--once"])
    send(last)
    found = []
    start = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run([python, "-c", FIRST, broker.address, f"{topic}-out"], check=True)
    found.append(time.monotonic() - start)
    child.send_signal(signal.SIGTERM)
    child.wait()
    shutil.rmtree(state, ignore_errors=True)
    print(f"\nrestart with 1,000,000 open windows: first row after {found[0]:.2f} s")
    lake.bar("restart: seconds to the first row, at most", found[0], 2.0)


FIRST = """
import sys
from confluent_kafka import Consumer, TopicPartition
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": "first", "isolation.level": "read_committed", "fetch.wait.max.ms": 5})
consumer.assign([TopicPartition(sys.argv[2], 0, 0)])
while True:
    message = consumer.poll(0.01)
    if message is not None and not message.error():
        break
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--headwater", default="target/release/headwater")
    parser.add_argument("--work", default=os.environ.get("HEADWATER_CACHE", str(pathlib.Path.home() / ".cache/headwater")))
    parser.add_argument("--flink", help="folder of Flink's Python packages")
    parser.add_argument("--only", choices=["file", "kafka", "latency", "restart"])
    args = parser.parse_args()
    args.headwater = str(pathlib.Path(args.headwater).resolve())
    work = pathlib.Path(args.work).resolve() / "bench"
    work.mkdir(parents=True, exist_ok=True)
    python = peers(work)
    wanted = [args.only] if args.only else ["file", "kafka", "latency", "restart"]
    if "file" in wanted:
        files(args, python, work)
    if wanted == ["file"]:
        return
    broker = Broker(work)
    try:
        for name, bench in (("kafka", kafka), ("latency", latency), ("latency", windows), ("restart", restart)):
            if name in wanted:
                bench(args, python, work, broker)
    finally:
        broker.stop()


if __name__ == "__main__":
    main()
