//! Apache Kafka: one node that is broker and controller, with transactions.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Result;

use super::{Server, accepts, free_port, installed, maven, run};

/// A running broker.
#[derive(Debug)]
pub struct Kafka {
    /// `host:port` for `bootstrap.servers`.
    pub brokers: String,
    server: Server,
    library: PathBuf,
    port: u16,
}

impl Kafka {
    /// Installs Kafka if need be, formats a log folder and starts a broker on a free port.
    pub fn start() -> Result<Self> {
        let library = installed("kafka-4.2.0", |folder| {
            maven(folder, &[("org.apache.kafka", "kafka_2.13", "4.2.0"), ("org.slf4j", "slf4j-simple", "1.7.36")])
        })?;
        let data = tempfile::tempdir()?;
        let (port, controller) = (free_port()?, free_port()?);
        let log_dirs = data.path().join("log");
        let lines = [
            "process.roles=broker,controller".to_owned(),
            "node.id=1".to_owned(),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
            format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}"),
            "controller.listener.names=CONTROLLER".to_owned(),
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned(),
            format!("log.dirs={}", log_dirs.display()),
            "group.initial.rebalance.delay.ms=0".to_owned(),
            "offsets.topic.replication.factor=1".to_owned(),
            "offsets.topic.num.partitions=4".to_owned(),
            "transaction.state.log.replication.factor=1".to_owned(),
            "transaction.state.log.min.isr=1".to_owned(),
            "transaction.state.log.num.partitions=4".to_owned(),
        ];
        let config = data.path().join("server.properties");
        fs::write(&config, lines.join("\n"))?;
        let id = run(java(&library).args(["kafka.tools.StorageTool", "random-uuid"]))?;
        run(java(&library).args(["kafka.tools.StorageTool", "format", "-t", id.trim(), "-c"]).arg(&config))?;
        let server = Server::spawn("kafka", broker(&library).arg(&config), data)?;
        let mut kafka = Self { brokers: format!("127.0.0.1:{port}"), server, library, port };
        kafka.server.wait_until("kafka", || accepts(port))?;
        Ok(kafka)
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
