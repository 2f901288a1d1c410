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
}

/// Listeners for clients that must show who they are, with one user each way.
#[derive(Debug, Clone)]
pub struct SecureListeners {
    /// `host:port` that speaks TLS.
    pub tls: String,
    /// `host:port` that speaks TLS and asks for a user, by PLAIN or SCRAM-SHA-512.
    pub sasl: String,
    /// The certificate of the authority, as PEM.
    pub authority: PathBuf,
}

/// User of the listeners that ask for one.
pub const KAFKA_USER: &str = "alice";
/// Its password for PLAIN.
pub const KAFKA_PLAIN_PASSWORD: &str = "plain-word";
/// Its password for SCRAM.
pub const KAFKA_SCRAM_PASSWORD: &str = "scram-word";
/// Password of the broker's key store.
const STORE_PASSWORD: &str = "key-store";

impl Kafka {
    /// Installs Kafka if need be, formats a log folder and starts a broker on a free port.
    pub fn start() -> Result<Self> {
        Self::start_on(free_port()?, false)
    }

    /// The same, on this port.
    pub fn start_at(port: u16) -> Result<Self> {
        Self::start_on(port, false)
    }

    /// The same, with listeners that speak TLS.
    pub fn start_secure() -> Result<Self> {
        Self::start_on(free_port()?, true)
    }

    fn start_on(port: u16, is_secure: bool) -> Result<Self> {
        let library = installed("kafka-4.2.0", |folder| {
            maven(folder, &[("org.apache.kafka", "kafka_2.13", "4.2.0"), ("org.slf4j", "slf4j-simple", "1.7.36")])
        })?;
        let data = tempfile::tempdir()?;
        let controller = free_port()?;
        let log_dirs = data.path().join("log");
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{port}");
        let mut protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned();
        let mut more = Vec::new();
        let mut secure = None;
        if is_secure {
            let (tls, sasl) = (format!("127.0.0.1:{}", free_port()?), format!("127.0.0.1:{}", free_port()?));
            listeners.push_str(&format!(",TLS://{tls},SECURE://{sasl}"));
            protocols.push_str(",TLS:SSL,SECURE:SASL_SSL");
            let authority = make_key_store(data.path())?;
            more = secure_lines(data.path());
            secure = Some(SecureListeners { tls, sasl, authority });
        }
        let lines = [
            "process.roles=broker,controller".to_owned(),
            "node.id=1".to_owned(),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!("listeners={listeners},CONTROLLER://127.0.0.1:{controller}"),
            format!("advertised.listeners={listeners}"),
            "controller.listener.names=CONTROLLER".to_owned(),
            "inter.broker.listener.name=PLAINTEXT".to_owned(),
            format!("listener.security.protocol.map={protocols}"),
            format!("log.dirs={}", log_dirs.display()),
            "group.initial.rebalance.delay.ms=0".to_owned(),
            "offsets.topic.replication.factor=1".to_owned(),
            "offsets.topic.num.partitions=4".to_owned(),
            "transaction.state.log.replication.factor=1".to_owned(),
            "transaction.state.log.min.isr=1".to_owned(),
            "transaction.state.log.num.partitions=4".to_owned(),
            // Compaction within seconds, for the tests of compacted topics.
            "log.cleaner.backoff.ms=500".to_owned(),
        ];
        let config = data.path().join("server.properties");
        fs::write(&config, lines.into_iter().chain(more).collect::<Vec<_>>().join("\n"))?;
        let id = run(java(&library).args(["kafka.tools.StorageTool", "random-uuid"]))?;
        let mut format = java(&library);
        format.args(["kafka.tools.StorageTool", "format", "-t", id.trim(), "-c"]).arg(&config);
        if is_secure {
            let user = format!("SCRAM-SHA-512=[name={KAFKA_USER},password={KAFKA_SCRAM_PASSWORD}]");
            format.args(["--add-scram", &user]);
        }
        run(&mut format)?;
        let server = Server::spawn("kafka", broker(&library).arg(&config), data)?;
        let mut kafka = Self { brokers: format!("127.0.0.1:{port}"), secure, server, library, port };
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

/// A key store with a certificate for this machine; returns the certificate as PEM.
fn make_key_store(folder: &std::path::Path) -> Result<PathBuf> {
    let (store, authority) = (folder.join("keys.p12"), folder.join("authority.pem"));
    let with_store = |command: &str| {
        let mut keytool = Command::new("keytool");
        keytool.args([command, "-alias", "broker", "-storepass", STORE_PASSWORD, "-keystore"]).arg(&store);
        keytool
    };
    let mut make = with_store("-genkeypair");
    make.args(["-keyalg", "RSA", "-keysize", "2048", "-validity", "30", "-storetype", "PKCS12"]);
    run(make.args(["-dname", "CN=localhost", "-ext", "SAN=IP:127.0.0.1,DNS:localhost"]))?;
    run(with_store("-exportcert").args(["-rfc", "-file"]).arg(&authority))?;
    Ok(authority)
}

fn secure_lines(folder: &std::path::Path) -> Vec<String> {
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"broker\" password=\"b\"";
    vec![
        format!("ssl.keystore.location={}", folder.join("keys.p12").display()),
        format!("ssl.keystore.password={STORE_PASSWORD}"),
        "ssl.keystore.type=PKCS12".to_owned(),
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
