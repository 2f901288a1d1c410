//! Apache Kafka: one node that is broker and controller, with transactions.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Result;

use super::{Server, accepts, free_port, installed, maven, run};

/// A running broker.
#[derive(Debug)]
pub struct Kafka {
    /// `host:port` for `bootstrap.servers`.
    pub brokers: String,
    /// Its listeners with TLS, if it has them.
    pub secure: Option<SecureListeners>,
    server: Server,
    library: PathBuf,
    port: u16,
    controller: u16,
    cluster: String,
}

/// Listeners for clients that must show who they are, with one user each way.
#[derive(Debug, Clone)]
pub struct SecureListeners {
    /// `host:port` that speaks TLS.
    pub tls: String,
    /// `host:port` that speaks TLS and asks for a user, by PLAIN or SCRAM-SHA-512.
    pub sasl: String,
    /// `host:port` that speaks TLS and asks for a certificate.
    pub mutual: String,
    /// The certificate of the authority, as PEM.
    pub authority: PathBuf,
    /// A certificate the broker knows, with its key.
    pub client: ClientCertificate,
}

/// A client's certificate in the forms clients keep it in.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// Certificate and key in one PKCS#12 file.
    pub store: PathBuf,
    /// The certificate as PEM.
    pub certificate: PathBuf,
    /// Its key as PEM, encrypted.
    pub key: PathBuf,
}

/// User of the listeners that ask for one.
pub const KAFKA_USER: &str = "alice";
/// Its password for PLAIN.
pub const KAFKA_PLAIN_PASSWORD: &str = "plain-word";
/// Its password for SCRAM.
pub const KAFKA_SCRAM_PASSWORD: &str = "scram-word";
/// Password of the key stores and of the client's key.
pub const KAFKA_STORE_PASSWORD: &str = "key-store";

/// What a broker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Plain,
    Secure,
    /// One of two brokers that keep copies of each other's partitions.
    OneOfTwo,
}

impl Kafka {
    /// Installs Kafka if need be, formats a log folder and starts a broker on a free port.
    pub fn start() -> Result<Self> {
        Self::start_on(free_port()?, Shape::Plain)
    }

    /// The same, on this port.
    pub fn start_at(port: u16) -> Result<Self> {
        Self::start_on(port, Shape::Plain)
    }

    /// The same, with listeners that speak TLS.
    pub fn start_secure() -> Result<Self> {
        Self::start_on(free_port()?, Shape::Secure)
    }

    /// Two brokers, of which the second is no controller: it can go, and the first leads its partitions.
    pub fn start_two() -> Result<(Self, Self)> {
        let first = Self::start_on(free_port()?, Shape::OneOfTwo)?;
        let (port, data) = (free_port()?, tempfile::tempdir()?);
        let listener = format!("PLAINTEXT://127.0.0.1:{port}");
        let voters = format!("controller.quorum.voters=1@127.0.0.1:{}", first.controller);
        let roles = ["process.roles=broker".to_owned(), "node.id=2".to_owned(), voters];
        let mut lines = lines("CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT", data.path(), Shape::OneOfTwo);
        lines.extend(roles);
        lines.extend([format!("listeners={listener}"), format!("advertised.listeners={listener}")]);
        let config = data.path().join("server.properties");
        fs::write(&config, lines.join("\n"))?;
        let library = first.library.clone();
        let mut format = java(&library);
        format.args(["kafka.tools.StorageTool", "format", "-t", &first.cluster, "-c"]);
        run(format.arg(&config))?;
        let server = Server::spawn("kafka", broker(&library).arg(&config), data)?;
        let (brokers, controller, cluster) = (format!("127.0.0.1:{port}"), first.controller, first.cluster.clone());
        let mut second = Self { brokers, secure: None, server, library, port, controller, cluster };
        second.server.wait_until("kafka", || accepts(port))?;
        Ok((first, second))
    }

    fn start_on(port: u16, shape: Shape) -> Result<Self> {
        let library = installed("kafka-4.2.0", |folder| {
            maven(folder, &[("org.apache.kafka", "kafka_2.13", "4.2.0"), ("org.slf4j", "slf4j-simple", "1.7.36")])
        })?;
        let data = tempfile::tempdir()?;
        let controller = free_port()?;
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{port}");
        let mut protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned();
        let mut more = Vec::new();
        let mut secure = None;
        if shape == Shape::Secure {
            let address = || Ok::<_, anyhow::Error>(format!("127.0.0.1:{}", free_port()?));
            let (tls, sasl, mutual) = (address()?, address()?, address()?);
            listeners.push_str(&format!(",TLS://{tls},SECURE://{sasl},MUTUAL://{mutual}"));
            protocols.push_str(",TLS:SSL,SECURE:SASL_SSL,MUTUAL:SSL");
            let (authority, client) = (make_key_store(data.path())?, make_client(data.path())?);
            more = secure_lines(data.path());
            secure = Some(SecureListeners { tls, sasl, mutual, authority, client });
        }
        more.extend([
            "process.roles=broker,controller".to_owned(),
            "node.id=1".to_owned(),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!("listeners={listeners},CONTROLLER://127.0.0.1:{controller}"),
            format!("advertised.listeners={listeners}"),
        ]);
        let lines = lines(&protocols, data.path(), shape);
        let config = data.path().join("server.properties");
        fs::write(&config, lines.into_iter().chain(more).collect::<Vec<_>>().join("\n"))?;
        let cluster = run(java(&library).args(["kafka.tools.StorageTool", "random-uuid"]))?.trim().to_owned();
        let mut format = java(&library);
        format.args(["kafka.tools.StorageTool", "format", "-t", &cluster, "-c"]).arg(&config);
        if shape == Shape::Secure {
            let user = format!("SCRAM-SHA-512=[name={KAFKA_USER},password={KAFKA_SCRAM_PASSWORD}]");
            format.args(["--add-scram", &user]);
        }
        run(&mut format)?;
        let server = Server::spawn("kafka", broker(&library).arg(&config), data)?;
        let brokers = format!("127.0.0.1:{port}");
        let mut kafka = Self { brokers, secure, server, library, port, controller, cluster };
        kafka.server.wait_until("kafka", || accepts(port))?;
        Ok(kafka)
    }

    /// Stops the broker at once; [`Kafka::restart`] starts it again.
    pub fn stop(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// Kills the broker and starts it again on its port and data.
    pub fn restart(&mut self) -> Result<()> {
        self.server.kill()?;
        let config = self.server.data().join("server.properties");
        let log = fs::File::create(self.server.data().join("restarted.log"))?;
        self.server.child = broker(&self.library).arg(config).stdout(log.try_clone()?).stderr(log).spawn()?;
        let port = self.port;
        self.server.wait_until("kafka", || accepts(port))
    }
}

/// The lines all brokers have.
fn lines(protocols: &str, folder: &std::path::Path, shape: Shape) -> Vec<String> {
    let copies = if shape == Shape::OneOfTwo { 2 } else { 1 };
    vec![
        "controller.listener.names=CONTROLLER".to_owned(),
        "inter.broker.listener.name=PLAINTEXT".to_owned(),
        format!("listener.security.protocol.map={protocols}"),
        format!("log.dirs={}", folder.join("log").display()),
        "group.initial.rebalance.delay.ms=0".to_owned(),
        format!("offsets.topic.replication.factor={copies}"),
        "offsets.topic.num.partitions=4".to_owned(),
        format!("transaction.state.log.replication.factor={copies}"),
        "transaction.state.log.min.isr=1".to_owned(),
        "transaction.state.log.num.partitions=4".to_owned(),
        // Compaction within seconds, for the tests of compacted topics.
        "log.cleaner.backoff.ms=500".to_owned(),
        // A broker that is gone is noticed soon, and leads its partitions again soon after it is back.
        "broker.session.timeout.ms=3000".to_owned(),
        "broker.heartbeat.interval.ms=500".to_owned(),
        "leader.imbalance.check.interval.seconds=2".to_owned(),
        "leader.imbalance.per.broker.percentage=0".to_owned(),
    ]
}

/// A key store with a certificate for this machine; returns the certificate as PEM.
fn make_key_store(folder: &std::path::Path) -> Result<PathBuf> {
    let (store, authority) = (folder.join("keys.p12"), folder.join("authority.pem"));
    let with_store = |command: &str| {
        let mut keytool = Command::new("keytool");
        keytool.args([command, "-alias", "broker", "-storepass", KAFKA_STORE_PASSWORD, "-keystore"]).arg(&store);
        keytool
    };
    let mut make = with_store("-genkeypair");
    make.args(["-keyalg", "RSA", "-keysize", "2048", "-validity", "30", "-storetype", "PKCS12"]);
    run(make.args(["-dname", "CN=localhost", "-ext", "SAN=IP:127.0.0.1,DNS:localhost"]))?;
    run(with_store("-exportcert").args(["-rfc", "-file"]).arg(&authority))?;
    Ok(authority)
}

/// A certificate of a client, and a store for the broker with that alone in it.
fn make_client(folder: &std::path::Path) -> Result<ClientCertificate> {
    let [store, certificate, key, known] =
        ["client.p12", "client.pem", "client.key", "known.p12"].map(|name| folder.join(name));
    let with_store = |command: &str, store: &PathBuf| {
        let mut keytool = Command::new("keytool");
        let alias = ["-alias", "client", "-storepass", KAFKA_STORE_PASSWORD, "-storetype", "PKCS12"];
        keytool.arg(command).args(alias).arg("-keystore").arg(store);
        keytool
    };
    let mut make = with_store("-genkeypair", &store);
    run(make.args(["-keyalg", "RSA", "-keysize", "2048", "-validity", "30", "-dname", "CN=client"]))?;
    run(with_store("-exportcert", &store).args(["-rfc", "-file"]).arg(&certificate))?;
    run(with_store("-importcert", &known).args(["-noprompt", "-file"]).arg(&certificate))?;
    let password = format!("pass:{KAFKA_STORE_PASSWORD}");
    let mut export = Command::new("openssl");
    export.args(["pkcs12", "-nocerts", "-passin", &password, "-passout", &password, "-in"]).arg(&store);
    run(export.arg("-out").arg(&key))?;
    Ok(ClientCertificate { store, certificate, key })
}

fn secure_lines(folder: &std::path::Path) -> Vec<String> {
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"broker\" password=\"b\"";
    vec![
        format!("ssl.keystore.location={}", folder.join("keys.p12").display()),
        format!("ssl.keystore.password={KAFKA_STORE_PASSWORD}"),
        "ssl.keystore.type=PKCS12".to_owned(),
        "listener.name.mutual.ssl.client.auth=required".to_owned(),
        format!("listener.name.mutual.ssl.truststore.location={}", folder.join("known.p12").display()),
        format!("listener.name.mutual.ssl.truststore.password={KAFKA_STORE_PASSWORD}"),
        "listener.name.mutual.ssl.truststore.type=PKCS12".to_owned(),
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512".to_owned(),
        format!("listener.name.secure.plain.sasl.jaas.config={plain} user_{KAFKA_USER}=\"{KAFKA_PLAIN_PASSWORD}\";"),
        "listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule \
         required;"
            .to_owned(),
    ]
}

fn java(library: &std::path::Path) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"])
        .arg(library.join("lib").join("*"));
    command
}

fn broker(library: &std::path::Path) -> Command {
    let mut command = java(library);
    command.arg("kafka.Kafka");
    command
}
