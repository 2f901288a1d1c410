//! librdkafka clients from `properties.*`, and its errors as ours.
//!
//! A broker that restarts, or a coordinator or leader that moves, answers "not now" for a while. Such a question is asked
//! again with growing pauses, for [`ASK_AGAIN_FOR`] at the most; then the answer is an error that may be tried again.
//!
//! Invariant: no value of a property is in an error, since passwords are among them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use headwater_engine::{
    catalog::Properties,
    error::{Error, ErrorKind, Result},
    memory::{MemoryBudget, MemoryLease},
};
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    topic_partition_list::Offset,
};

use super::options::Topics;

/// How long one try of a question to the broker may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a broker may refuse the client before that is believed: one that has just started may not know its users yet.
const REFUSED_FOR: Duration = Duration::from_secs(3);

/// How long a question is asked again while the broker says "not now".
pub(super) const ASK_AGAIN_FOR: Duration = Duration::from_secs(60);

/// How long an unknown topic or partition is asked for again: a broker that has just started may not know it yet.
const ASK_FOR_UNKNOWN: Duration = Duration::from_secs(3);

/// Bytes a consumer fetches ahead: as many as the least of its settings allows, and the most it gets from the memory budget.
pub(super) const FETCH_BYTES_MIN: usize = 1 << 20;
const FETCH_BYTES_MAX: usize = 64 << 20;

/// The bytes one of so many clients of a table may hold in its queue: a part of what the job may have, but `least` in any
/// case.
pub(super) fn queue(memory: &MemoryBudget, clients: usize, least: usize) -> MemoryLease {
    let wanted = (memory.limit() / 8 / clients.max(1)).clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX);
    memory.buffer(wanted.max(least), least)
}

/// Events a client is polled for to learn why there is no connection.
const EVENTS_MAX: usize = 100;

/// The first pause between two questions, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Sends librdkafka's own log lines to ours, and keeps the last one that says why there is no connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Context {
    trouble: Arc<Mutex<Option<String>>>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                if facility == "FAIL" {
                    *self.trouble.lock() = Some(reason_of(message));
                }
                tracing::warn!(target: "kafka", "{facility}: {message}");
            }
            _ => tracing::debug!(target: "kafka", "{facility}: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        *self.trouble.lock() = Some(reason_of(reason));
        tracing::debug!(target: "kafka", "{error}: {reason}");
    }
}

/// A log line without the name of the thread before it and the time after it.
fn reason_of(message: &str) -> String {
    let message = message.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(message, |rest| rest.1);
    message.rsplit_once(" (after ").map_or(message, |(reason, _)| reason).to_owned()
}

/// What a line says that no second try will change.
fn refusal(doing: &str, trouble: &str) -> Option<Error> {
    let denied = |what: &str, hint: &str| {
        Some(Error::new(ErrorKind::Denied, "PERMISSION_DENIED", format!("{doing}: {what}")).with_hint(hint))
    };
    if trouble.contains("SASL authentication error") || trouble.contains("Authentication failed") {
        return denied(
            "the broker refuses the user name or password",
            "check 'properties.sasl.username' and 'properties.sasl.password', or 'properties.sasl.jaas.config'",
        );
    }
    if trouble.contains("mechanism handshake failed") {
        let offered = trouble.split_once("supported mechanisms: ").map(|(_, offered)| format!(", it offers {offered}"));
        let what = format!("the broker refuses the mechanism{}", offered.unwrap_or_default());
        return denied(&what, "correct 'properties.sasl.mechanism'");
    }
    if trouble.contains("certificate verify failed") {
        return denied(
            "the broker's certificate is not one of a known authority",
            "name the authority's certificate (PEM) with 'properties.ssl.ca.location'",
        );
    }
    let alerts =
        ["alert bad certificate", "alert certificate required", "alert certificate unknown", "alert unknown ca"];
    if alerts.iter().any(|alert| trouble.contains(alert)) {
        return denied(
            "the broker asks for a client's certificate and got none that it knows",
            "name it and its key (PEM) with 'properties.ssl.certificate.location' and 'properties.ssl.key.location', or \
             both in one PKCS#12 file with 'properties.ssl.keystore.location'",
        );
    }
    None
}

impl ConsumerContext for Context {}

/// A consumer as this code uses it.
pub(super) type KafkaConsumer = BaseConsumer<Context>;

/// The user's properties, with Java's names where librdkafka has others.
pub(super) fn config(properties: &Properties) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    for (key, value) in properties {
        match key.as_str() {
            "auto.offset.reset" | "enable.auto.commit" | "enable.auto.offset.store" | "enable.partition.eof" => {}
            "sasl.mechanism" => {
                config.set("sasl.mechanisms", value);
            }
            "sasl.jaas.config" => {
                let (user, password) = jaas(value)?;
                config.set("sasl.username", user).set("sasl.password", password);
            }
            "request.timeout.ms" => {
                config.set("socket.timeout.ms", value);
            }
            "ssl.truststore.location" => {
                config.set("ssl.ca.location", pem_truststore(properties, value)?);
            }
            "ssl.truststore.type" | "ssl.truststore.password" | "ssl.keystore.type" => {}
            "ssl.endpoint.identification.algorithm" if value.is_empty() => {
                config.set(key, "none");
            }
            _ => {
                config.set(key, value);
            }
        }
    }
    Ok(config)
}

/// A file of Java's that holds authorities, if it is one that others read too.
fn pem_truststore<'a>(properties: &Properties, path: &'a str) -> Result<&'a str> {
    let kind = properties.get("ssl.truststore.type").map(String::as_str);
    if kind == Some("PEM") || (kind.is_none() && path.to_lowercase().ends_with(".pem")) {
        return Ok(path);
    }
    Err(Error::not_supported(format!("'properties.ssl.truststore.location' = '{path}' is no PEM file"))
        .with_hint("export it with keytool -exportcert -rfc, and name it with 'properties.ssl.ca.location'"))
}

/// User and password of a Java login module's line.
fn jaas(line: &str) -> Result<(String, String)> {
    let quoted = |name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    quoted("username").zip(quoted("password")).ok_or_else(|| {
        Error::user("INVALID_TABLE_PROPERTY", "'properties.sasl.jaas.config' has no username and password")
            .with_hint("use 'properties.sasl.username' and 'properties.sasl.password'")
    })
}

/// A consumer that commits nothing by itself and says when a partition runs dry.
pub(super) fn consumer(properties: &Properties, group: &str, fetch_bytes: usize) -> Result<KafkaConsumer> {
    let mut config = config(properties)?;
    let fetch_bytes = fetch_bytes.clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX);
    let set_default = |config: &mut ClientConfig, key: &str, value: &str| {
        if config.get(key).is_none() {
            config.set(key, value);
        }
    };
    set_default(&mut config, "group.id", group);
    set_default(&mut config, "isolation.level", "read_committed");
    // The client takes the bytes of one reply, `fetch.max.bytes`, from this.
    set_default(&mut config, "queued.max.messages.kbytes", &(fetch_bytes / 1024).to_string());
    // Each message takes some hundred bytes beside its own, which the limit above does not count.
    set_default(&mut config, "queued.min.messages", "20000");
    set_default(&mut config, "fetch.queue.backoff.ms", "10");
    set_default(&mut config, "fetch.wait.max.ms", "100");
    config
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error");
    config.create_with_context(Context::default()).map_err(|error| client_error("cannot make a Kafka consumer", &error))
}

/// A Kafka error with what was being done.
pub(super) fn client_error(doing: &str, error: &KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    let denied = [
        Code::Authentication,
        Code::TopicAuthorizationFailed,
        Code::GroupAuthorizationFailed,
        Code::ClusterAuthorizationFailed,
        Code::TransactionalIdAuthorizationFailed,
        Code::SaslAuthenticationFailed,
    ];
    match error {
        KafkaError::ClientConfig(_, reason, key, _) => {
            Error::user("INVALID_TABLE_PROPERTY", format!("{doing}: option 'properties.{key}' is refused: {reason}"))
        }
        other => match other.rdkafka_error_code() {
            Some(Code::ProducerFenced | Code::Fenced | Code::InvalidProducerEpoch) => {
                Error::new(ErrorKind::Fenced, "FENCED", format!("{doing}: another copy of the job has taken over"))
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                Error::user("TABLE_NOT_FOUND", format!("{doing}: the topic does not exist"))
            }
            Some(code) if denied.contains(&code) => {
                Error::new(ErrorKind::Denied, "PERMISSION_DENIED", format!("{doing}: {other}"))
            }
            _ => Error::unavailable(format!("{doing}: {other}")),
        },
    }
}

/// How long a question with this answer is worth asking again.
fn patience(code: RDKafkaErrorCode) -> Option<Duration> {
    use RDKafkaErrorCode as Code;
    match code {
        Code::NotCoordinator
        | Code::CoordinatorNotAvailable
        | Code::CoordinatorLoadInProgress
        | Code::NotLeaderForPartition
        | Code::LeaderNotAvailable
        | Code::ReplicaNotAvailable
        | Code::BrokerNotAvailable
        | Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::NetworkException
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::TimedOutQueue
        | Code::WaitingForCoordinator
        | Code::WaitCache
        | Code::KafkaStorageError
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::OffsetNotAvailable
        | Code::UnstableOffsetCommit => Some(ASK_AGAIN_FOR),
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => Some(ASK_FOR_UNKNOWN),
        _ => None,
    }
}

/// Asks until the broker answers, with pauses between; the limits are those of [`patience`].
fn ask<T>(consumer: &KafkaConsumer, doing: &str, question: impl Fn() -> KafkaResult<T>) -> Result<T> {
    ask_or_refused(|| trouble(consumer), doing, question)
}

fn ask_or_refused<T>(
    trouble: impl Fn() -> Option<String>,
    doing: &str,
    question: impl Fn() -> KafkaResult<T>,
) -> Result<T> {
    let (mut pause, longest) = PAUSES;
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        let error = match question() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let trouble = trouble();
        let refused = trouble.as_deref().and_then(|trouble| refusal(doing, trouble));
        if let Some(refused) = refused.filter(|_| begun.elapsed() > REFUSED_FOR) {
            return Err(refused);
        }
        let patience = error.rdkafka_error_code().and_then(patience);
        if patience.is_none_or(|patience| begun.elapsed() + pause > patience) {
            return Err(with_trouble(client_error(doing, &error), trouble));
        }
        if !is_told && begun.elapsed() > REFUSED_FOR {
            is_told = true;
            tracing::warn!(target: "kafka", "{doing}: {}; asking again", trouble.unwrap_or_else(|| error.to_string()));
        }
        std::thread::park_timeout(pause);
        pause = (pause * 2).min(longest);
    }
}

/// Why there was no connection the last time. A consumer that reads nothing is polled for it; one that does must not be,
/// since that could take its messages.
fn trouble(consumer: &KafkaConsumer) -> Option<String> {
    if consumer.assignment().is_ok_and(|assigned| assigned.count() == 0) {
        for _ in 0..EVENTS_MAX {
            if consumer.poll(Duration::ZERO).is_none() {
                break;
            }
        }
    }
    consumer.client().context().trouble.lock().take()
}

fn with_trouble(error: Error, trouble: Option<String>) -> Error {
    match trouble.filter(|_| error.kind() == ErrorKind::Unavailable) {
        Some(trouble) => Error::unavailable(format!("{}: {trouble}", error.message())),
        None => error,
    }
}

/// Whether a topic is one of these.
pub(super) fn is_named(topics: &Topics, topic: &str) -> bool {
    match topics {
        Topics::Named(names) => names.iter().any(|name| name == topic),
        Topics::Pattern(pattern) => regex_of(pattern).is_ok_and(|regex| regex.is_match(topic)),
    }
}

/// Every partition of the topics, by name.
pub(super) fn partitions(consumer: &KafkaConsumer, topics: &Topics) -> Result<Vec<(String, i32)>> {
    let mut found = Vec::new();
    match topics {
        Topics::Named(names) => {
            for name in names {
                let of_topic = partitions_of(consumer, name)?;
                if of_topic.is_empty() {
                    return Err(Error::user("TABLE_NOT_FOUND", format!("topic \"{name}\" does not exist"))
                        .with_hint("create it, or correct the option 'topic'"));
                }
                found.extend(of_topic.into_iter().map(|partition| (name.clone(), partition)));
            }
        }
        Topics::Pattern(pattern) => {
            let regex = regex_of(pattern)?;
            let metadata = ask(consumer, "cannot list topics", || consumer.fetch_metadata(None, REQUEST_TIMEOUT))?;
            for topic in metadata.topics().iter().filter(|topic| regex.is_match(topic.name())) {
                found.extend(topic.partitions().iter().map(|partition| (topic.name().to_owned(), partition.id())));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The partitions of a topic; none when the broker does not know it.
fn partitions_of(consumer: &KafkaConsumer, name: &str) -> Result<Vec<i32>> {
    let doing = format!("cannot list the partitions of topic \"{name}\"");
    let listed = ask(consumer, &doing, || {
        let metadata = consumer.fetch_metadata(Some(name), REQUEST_TIMEOUT)?;
        match metadata.topics().iter().find_map(rdkafka::metadata::MetadataTopic::error) {
            Some(error) => Err(KafkaError::MetadataFetch(error.into())),
            None => Ok(metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|at| at.id()).collect()),
        }
    });
    match listed {
        Err(error) if error.code().0 == "TABLE_NOT_FOUND" => Ok(Vec::new()),
        listed => listed,
    }
}

fn regex_of(pattern: &str) -> Result<regex::Regex> {
    regex::Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
        Error::user("INVALID_TABLE_PROPERTY", format!("option 'topic-pattern' is no regular expression: {error}"))
    })
}

/// First offset and end of a partition; the end is that of the last finished transaction.
pub(super) fn bounds(consumer: &KafkaConsumer, topic: &str, partition: i32) -> Result<(i64, i64)> {
    let doing = format!("cannot ask for the offsets of \"{topic}-{partition}\"");
    ask(consumer, &doing, || {
        let bounds = consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT);
        let code = bounds.as_ref().err().and_then(KafkaError::rdkafka_error_code);
        if code == Some(RDKafkaErrorCode::UnknownPartition) {
            // Another client has listed it: the topic has grown since this one asked for its partitions.
            consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
        }
        bounds
    })
}

/// The group's committed offset of a partition, if it has one.
pub(super) fn committed(consumer: &KafkaConsumer, topic: &str, partition: i32) -> Result<Option<i64>> {
    let offsets = ask(consumer, "cannot ask for the group's offsets", || {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        answered(consumer.committed_offsets(list, REQUEST_TIMEOUT)?, topic, partition)
    })?;
    Ok(offsets.find_partition(topic, partition).and_then(|element| match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }))
}

/// The first offset at or after a time, or the end.
pub(super) fn offset_at(consumer: &KafkaConsumer, topic: &str, partition: i32, millis: i64) -> Result<i64> {
    let offsets = ask(consumer, "cannot ask for an offset by time", || {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(millis))?;
        answered(consumer.offsets_for_times(list, REQUEST_TIMEOUT)?, topic, partition)
    })?;
    match offsets.find_partition(topic, partition).map(|element| element.offset()) {
        Some(Offset::Offset(offset)) => Ok(offset),
        _ => bounds(consumer, topic, partition).map(|(_, end)| end),
    }
}

/// An answer whose partition has no error of its own.
fn answered(list: TopicPartitionList, topic: &str, partition: i32) -> KafkaResult<TopicPartitionList> {
    list.find_partition(topic, partition).map_or(Ok(()), |element| element.error())?;
    Ok(list)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn failing(code: RDKafkaErrorCode, times: u32) -> (Result<u32>, u32) {
        let asked = Cell::new(0);
        let answer = ask_or_refused(
            || None,
            "asking",
            || {
                asked.set(asked.get() + 1);
                if asked.get() <= times { Err(KafkaError::OffsetFetch(code)) } else { Ok(7) }
            },
        );
        (answer, asked.get())
    }

    #[test]
    fn the_queues_of_many_clients_leave_half_of_the_memory_to_others() {
        let memory = MemoryBudget::new(1 << 30);
        let mut queues: Vec<MemoryLease> = (0..16).map(|_| queue(&memory, 1, FETCH_BYTES_MIN)).collect();
        assert_eq!((queues[0].bytes(), queues[1].bytes()), (64 << 20, 64 << 20));
        assert!(queues.iter().all(|queue| queue.bytes() >= FETCH_BYTES_MIN));
        assert!(memory.used() <= (1 << 29) + 16 * FETCH_BYTES_MIN, "{}", memory.used());
        queues.clear();
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn an_answer_for_later_is_asked_for_again() {
        let (answer, asked) = failing(RDKafkaErrorCode::NotCoordinator, 2);
        assert_eq!((answer.unwrap(), asked), (7, 3));
    }

    #[test]
    fn a_refusal_is_final() {
        let (answer, asked) = failing(RDKafkaErrorCode::GroupAuthorizationFailed, 1);
        assert_eq!((answer.unwrap_err().kind(), asked), (ErrorKind::Denied, 1));
    }

    #[test]
    fn lines_of_the_client_say_what_to_correct() {
        let line = "[thrd:sasl_ssl://h:1/bootstrap]: sasl_ssl://h:1/bootstrap: SASL authentication error: Authentication \
                    failed: Invalid username or password (after 2ms in state AUTH_REQ)";
        let reason = reason_of(line);
        assert!(reason.starts_with("sasl_ssl://h:1/bootstrap: SASL") && reason.ends_with("password"), "{reason}");
        let hint = |line: &str| refusal("asking", line).and_then(|error| error.hint().map(str::to_owned));
        assert!(hint(&reason).unwrap().contains("'properties.sasl.password'"));
        let mechanism = "SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported \
                         mechanisms: SCRAM-SHA-512";
        assert!(refusal("asking", mechanism).unwrap().message().ends_with("it offers SCRAM-SHA-512"));
        assert!(hint("SSL handshake failed: certificate verify failed").unwrap().contains("ssl.ca.location"));
        assert!(hint("ssl/tls alert bad certificate: SSL alert number 42").unwrap().contains("ssl.keystore.location"));
        assert!(refusal("asking", "Connect to ipv4#127.0.0.1:1 failed: Connection refused").is_none());
    }

    #[test]
    fn names_of_java_are_understood() {
        let of = |pairs: &[(&str, &str)]| {
            config(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        let line = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"a\" password=\"b\";";
        let java = of(&[("sasl.jaas.config", line), ("ssl.truststore.location", "/ca.pem")]).unwrap();
        assert_eq!((java.get("sasl.password"), java.get("ssl.ca.location")), (Some("b"), Some("/ca.pem")));
        let error = of(&[("ssl.truststore.location", "/ca.jks")]).unwrap_err();
        assert!(error.message().contains("is no PEM file"), "{error}");
    }
}
