"""What other benches run beside Headwater, each installed once into the cache in which the tests keep their servers."""

import os
import pathlib
import shutil
import subprocess
import sys

CACHE = pathlib.Path(os.environ.get("HEADWATER_CACHE", pathlib.Path.home() / ".cache" / "headwater")) / "services"

TELEGRAF = "1.37.2"
PARTS = ["custom", "inputs.http_listener_v2", "outputs.file", "parsers.json", "serializers.json"]

# The newest connectors of Kinesis and DynamoDB that were to be had, and the Flink that the latter is made for.
FLINK = "1.19.3"
CONNECTORS = {"flink-connector-dynamodb": "4.3.0-1.19", "flink-sql-connector-kinesis": "4.0.0-1.16"}


def installed(name, install):
    """A folder that `install` filled once; it appears when that succeeded."""
    home, partial = CACHE / name, CACHE / f"{name}.partial"
    if not home.exists():
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        install(partial)
        partial.rename(home)
    return home


def telegraf():
    """Telegraf of its listener and its files alone, as its custom builder makes it."""
    def install(folder):
        package = f"github.com/influxdata/telegraf/cmd/telegraf@v{TELEGRAF}"
        subprocess.run(["go", "install", "-tags", ",".join(PARTS), package], check=True, env=dict(os.environ, GOBIN=str(folder)))
    return installed(f"telegraf-{TELEGRAF}", install) / "telegraf"


def flink():
    """The class path of Flink with its connectors of Kinesis and DynamoDB; its own jars first."""
    def install(folder):
        packages = [f"{name}=={FLINK}" for name in ("apache-flink", "apache-flink-libraries")]
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, *packages], check=True)
        wanted = "".join(f"<dependency><groupId>org.apache.flink</groupId><artifactId>{name}</artifactId><version>{version}"
                         "</version></dependency>" for name, version in CONNECTORS.items())
        (folder / "pom.xml").write_text("<project><modelVersion>4.0.0</modelVersion><groupId>tests</groupId><artifactId>tests"
                                        f"</artifactId><version>1</version><dependencies>{wanted}</dependencies></project>")
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=connectors"]
        subprocess.run(command, cwd=folder, check=True)
    home = installed(f"flink-{FLINK}", install)
    return f"{home}/pyflink/lib/*:{home}/connectors/*"
