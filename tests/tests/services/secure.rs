//! Listeners of a real broker that speak TLS and ask who one is: the right word is let in, a wrong one is named, not told.

use anyhow::{Context, Result, ensure};
use headwater_tests::{
    jobs::JobFolder,
    services::{
        KAFKA_PLAIN_PASSWORD, KAFKA_SCRAM_PASSWORD, KAFKA_STORE_PASSWORD, KAFKA_USER, Kafka, SecureListeners, Sent,
        Topics,
    },
};

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");

/// A job that copies a topic, with both ends at this listener and these properties.
fn copy(brokers: &str, properties: &str, sink: &str) -> String {
    let table = |topic: &str| {
        format!(
            "CREATE TABLE \"{topic}\" (n BIGINT) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'format' = 'json',
             'scan.startup.mode' = 'earliest-offset', 'properties.bootstrap.servers' = '{brokers}', {properties});\n"
        )
    };
    format!("{}{}INSERT INTO \"{sink}\" SELECT n FROM \"numbers\";", table("numbers"), table(sink))
}

/// The properties of each way to be let in.
fn ways(secure: &SecureListeners) -> Vec<(&'static str, String, String)> {
    let authority = format!("'properties.ssl.ca.location' = '{}'", secure.authority.display());
    let plain = format!(
        "'properties.security.protocol' = 'SASL_SSL', 'properties.sasl.mechanism' = 'PLAIN', {authority},
         'properties.sasl.username' = '{KAFKA_USER}', 'properties.sasl.password' = '${{env:PLAIN_WORD}}'"
    );
    let scram = format!(
        "'properties.security.protocol' = 'SASL_SSL', 'properties.sasl.mechanism' = 'SCRAM-SHA-512',
         'properties.ssl.truststore.type' = 'PEM', 'properties.ssl.truststore.location' = '{}',
         'properties.sasl.jaas.config' = 'org.apache.kafka.common.security.scram.ScramLoginModule required \
         username=\"{KAFKA_USER}\" password=\"{KAFKA_SCRAM_PASSWORD}\";'",
        secure.authority.display()
    );
    let tls = format!("'properties.security.protocol' = 'SSL', {authority}");
    vec![("tls", secure.tls.clone(), tls), ("plain", secure.sasl.clone(), plain), ("scram", secure.sasl.clone(), scram)]
}

fn folder(script: &str) -> Result<JobFolder> {
    Ok(JobFolder::new(BINARY, "copy.sql", script, "")?.with_variable("PLAIN_WORD", KAFKA_PLAIN_PASSWORD))
}

/// A broker with its secure listeners, and a topic of a hundred numbers.
struct Broker {
    _kafka: Kafka,
    secure: SecureListeners,
    topics: Topics,
}

impl Broker {
    async fn start() -> Result<Self> {
        let kafka = Kafka::start_secure()?;
        let secure = kafka.secure.clone().context("a broker with secure listeners")?;
        let topics = Topics::of(&kafka.brokers);
        topics.create("numbers", 2, &[]).await?;
        let numbers: Vec<Sent> = (0..100).map(|n| Sent::value(format!("{{\"n\":{n}}}"))).collect();
        topics.send("numbers", &numbers, None)?;
        Ok(Self { _kafka: kafka, secure, topics })
    }

    /// Copies the numbers into a topic of their own.
    async fn copies(&self, way: &str, brokers: &str, properties: &str) -> Result<()> {
        self.topics.create(way, 1, &[]).await?;
        folder(&copy(brokers, properties, way))?.start("copy.sql", &["--once"])?.finish()?;
        let copied = self.topics.read(way, 1)?.len();
        ensure!(copied == 100, "{way}: {copied}");
        Ok(())
    }
}

/// What a job says that is not let in.
fn refused(brokers: &str, properties: &str) -> Result<String> {
    let (code, said) = folder(&copy(brokers, properties, "copied"))?.start("copy.sql", &["--once"])?.wait()?;
    ensure!(code == Some(1), "{properties}: {code:?}\n{said}");
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_read_and_write_over_tls_and_sasl() -> Result<()> {
    let broker = Broker::start().await?;
    for (way, brokers, properties) in ways(&broker.secure) {
        broker.copies(way, &brokers, &properties).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_refuses_is_said_without_the_password() -> Result<()> {
    let Broker { secure, topics, .. } = &Broker::start().await?;
    topics.create("copied", 1, &[]).await?;
    let authority = format!("'properties.ssl.ca.location' = '{}'", secure.authority.display());
    let sasl = |mechanism: &str, password: &str| {
        format!(
            "'properties.security.protocol' = 'SASL_SSL', 'properties.sasl.mechanism' = '{mechanism}', {authority},
             'properties.sasl.username' = '{KAFKA_USER}', 'properties.sasl.password' = '{password}'"
        )
    };
    let name = "check 'properties.sasl.username' and 'properties.sasl.password'";
    let cases = [
        (&secure.sasl, sasl("PLAIN", "wrong-word"), "the broker refuses the user name or password", name),
        (&secure.sasl, sasl("SCRAM-SHA-512", "wrong-word"), "the broker refuses the user name or password", name),
        (&secure.sasl, sasl("SCRAM-SHA-256", "wrong-word"), "it offers", "correct 'properties.sasl.mechanism'"),
        (
            &secure.tls,
            "'properties.security.protocol' = 'SSL'".to_owned(),
            "is not one of a known authority",
            "'properties.ssl.ca.location'",
        ),
    ];
    for (brokers, properties, message, hint) in cases {
        let said = refused(brokers, &properties)?;
        ensure!(said.contains("error[PERMISSION_DENIED]") && said.contains(message), "{properties}:\n{said}");
        ensure!(said.contains(hint) && !said.contains("wrong-word"), "{properties}:\n{said}");
    }
    let java = "'properties.security.protocol' = 'SSL', 'properties.ssl.truststore.location' = '/keys.jks'";
    let said = refused(&secure.tls, java)?;
    ensure!(said.contains("keytool -exportcert -rfc"), "{said}");
    Ok(())
}

/// A listener that asks for a certificate: as PEM, as PKCS#12 under Java's names, and without.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_shows_its_certificate() -> Result<()> {
    let broker = Broker::start().await?;
    let secure = &broker.secure;
    let authority = format!(
        "'properties.security.protocol' = 'SSL', 'properties.ssl.ca.location' = '{}'",
        secure.authority.display()
    );
    let pem = format!(
        "{authority}, 'properties.ssl.certificate.location' = '{}', 'properties.ssl.key.location' = '{}',
         'properties.ssl.key.password' = '{KAFKA_STORE_PASSWORD}'",
        secure.client.certificate.display(),
        secure.client.key.display()
    );
    let java = format!(
        "{authority}, 'properties.ssl.keystore.type' = 'PKCS12', 'properties.ssl.keystore.location' = '{}',
         'properties.ssl.keystore.password' = '{KAFKA_STORE_PASSWORD}'",
        secure.client.store.display()
    );
    for (way, properties) in [("pem", pem), ("java", java)] {
        broker.copies(way, &secure.mutual, &properties).await?;
    }
    let said = refused(&secure.mutual, &authority)?;
    ensure!(said.contains("error[PERMISSION_DENIED]"), "{said}");
    ensure!(said.contains("'properties.ssl.certificate.location'"), "{said}");
    Ok(())
}
