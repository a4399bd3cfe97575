"""One real Apache Kafka broker on this machine, in KRaft mode: broker and controller are one process on loopback.

For development and tests. The jars are fetched from Maven Central once, into a cache folder; data, configuration and
log of a broker lie in a folder of its own, and a broker that was stopped or killed starts again with what it had.
A secured broker listens with TLS only: one port for SCRAM-SHA-512, one for client certificates.

    python deploy/kafka/broker.py run --folder build/kafka [--port 9092] [--secured]
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from certificates import make_certificates

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("ATTUNE_KAFKA_CACHE", HERE.parent.parent / ".cache" / "kafka"))
NEEDED = {"java": "a Java runtime, 17 or newer", "mvn": "Maven"}
START_TIMEOUT_S, STOP_TIMEOUT_S = 120.0, 30.0
READY = "Kafka Server started"
PAUSE_S = 0.05
USER = "attune"
LASTING_PORTS = range(10_000, 32_000)
_given_ports: set[int] = set()

PLAIN = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{doors}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised_doors}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{door_protocols}
inter.broker.listener.name=PLAINTEXT
"""
SECURED = """
listeners=SCRAM://127.0.0.1:{port},MTLS://127.0.0.1:{mtls_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=SCRAM://127.0.0.1:{port},MTLS://127.0.0.1:{mtls_port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,SCRAM:SASL_SSL,MTLS:SSL
inter.broker.listener.name=MTLS
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.scram.ssl.client.auth=none
listener.name.mtls.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={certificates}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={certificates}/ca.pem
"""
# What a client needs, as the services' settings.
CLIENTS = {
    "plain": 'bootstrap = "{address}"',
    "scram": """
bootstrap = "{address}"
tls = true
ca_file = "{certificates}/ca.pem"
mechanism = "SCRAM-SHA-512"
username = "{user}"
password_file = "{folder}/password"
""",
    "mtls": """
bootstrap = "{mtls_address}"
tls = true
ca_file = "{certificates}/ca.pem"
cert_file = "{certificates}/client.pem"
key_file = "{certificates}/client.key"
""",
}
COMMON = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=4194304
# A killed broker may register anew only when its session has ended.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
"""


class BrokerFailed(Exception):
    """Java or Maven is missing, or the broker did not start; the message says what to do or where its log is."""


def fetch(cache: Path = CACHE) -> Path:
    """The folder of the broker's jars, filled by Maven the first time. BrokerFailed if Java or Maven is missing."""
    missing = [meaning for program, meaning in NEEDED.items() if shutil.which(program) is None]
    if missing:
        hint = "on Debian: apt-get install default-jdk-headless maven"
        raise BrokerFailed(f"a Kafka broker needs {' and '.join(missing)}; {hint}")
    pom = HERE / "pom.xml"
    jars = cache / f"jars-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.exists():
            new = cache / "new"
            shutil.rmtree(new, ignore_errors=True)
            copy = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={new}"]
            if subprocess.run(copy, check=False).returncode:
                raise BrokerFailed("Maven could not fetch Apache Kafka; its output is above")
            new.rename(jars)
    return jars


def free_ports(number: int) -> list[int]:
    """Ports of loopback that nobody uses now, all different, also from those this process was given before.

    They lie below those that outgoing connections get, so that they stay free while what listens there is away.
    """
    found: list[int] = []
    while len(found) < number:
        port = secrets.choice(LASTING_PORTS)
        if port not in _given_ports and _is_free(port):
            _given_ports.add(port)
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as tried, suppress(OSError):
        tried.bind(("127.0.0.1", port))
        return True
    return False


class Broker:
    """A broker in `folder`, which keeps its data and the credentials of its clients over stop, kill and start.

    `port` 0 takes a free one; the port for client certificates and the controller's follow it. `proxies` are ports on
    which proxies listen: for each a plain broker has a door of its own, `doors` in the same order, and sends the
    clients that come through a door back to its proxy.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        secured: bool = False,
        proxies: Sequence[int] = (),
        cache: Path = CACHE,
    ) -> None:
        self._folder, self._cache, self._secured = folder, cache, secured
        free = free_ports(3 + len(proxies))
        self._proxies, self.doors = proxies, free[3:]
        self.port, self.mtls_port, self._controller_port = (port, port + 1, port + 2) if port else free[:3]
        self.address, self.mtls_address = f"127.0.0.1:{self.port}", f"127.0.0.1:{self.mtls_port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the broker says."""
        return self._folder / "broker.log"

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def is_running(self) -> bool:
        return self.pid is not None

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns when the broker serves; BrokerFailed if it does not in time."""
        jars = fetch(self._cache)
        self._prepare(jars)
        said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java(jars, "-Xmx512m"), "kafka.Kafka", str(self._configuration)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + timeout_s
        while READY not in self._said_since(said):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise BrokerFailed(f"the broker did not start; see {self.log}")
            time.sleep(PAUSE_S)

    def stop(self) -> None:
        """Asks it to end and waits."""
        if self.pid:
            self._process.terminate()  # type: ignore[union-attr]
            try:
                self._process.wait(STOP_TIMEOUT_S)  # type: ignore[union-attr]
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """kill -9."""
        if self.pid:
            self._process.kill()  # type: ignore[union-attr]
        if self._process:
            self._process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP for the time of the block: connections stay open, and nothing answers."""
        pid = self.pid
        assert pid, "the broker does not run"
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)  # the signal returns before its threads stand still
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def settings(self, client: str = "plain") -> Path:
        """TOML file of the settings of a client: "plain", or "scram" and "mtls" of a secured broker."""
        return self._folder / f"{client}.toml"

    @property
    def _configuration(self) -> Path:
        return self._folder / "server.properties"

    def _prepare(self, jars: Path) -> None:
        """Writes the configuration; the first time also makes the data folder, the certificates and the user."""
        certificates = self._folder / "certificates"
        is_first = not (self._folder / "data" / "meta.properties").exists()
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._secured and is_first:
            make_certificates(certificates)
            self._password.touch(mode=0o600)
            self._password.write_text(secrets.token_urlsafe(12))
        named = {
            "port": self.port, "mtls_port": self.mtls_port, "controller_port": self._controller_port,
            "address": self.address, "mtls_address": self.mtls_address, "user": USER,
            "folder": self._folder, "data": self._folder / "data", "certificates": certificates,
            "doors": _listed(",DOOR{}://127.0.0.1:{}", self.doors),
            "advertised_doors": _listed(",DOOR{}://127.0.0.1:{}", self._proxies),
            "door_protocols": _listed(",DOOR{}:PLAINTEXT", self._proxies),
        }  # fmt: skip
        self._configuration.write_text((COMMON + (SECURED if self._secured else PLAIN)).format(**named))
        for client in ("scram", "mtls") if self._secured else ("plain",):
            self.settings(client).write_text(f"[kafka]\n{CLIENTS[client].strip()}\n".format(**named))
        if is_first:
            self._format(jars)

    @property
    def _password(self) -> Path:
        return self._folder / "password"

    def _format(self, jars: Path) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [*self._java(jars, "-Xmx128m"), "kafka.tools.StorageTool", "format"]
        command += ["-t", cluster, "-c", str(self._configuration)]
        if self._secured:
            command += ["--add-scram", f"SCRAM-SHA-512=[name={USER},password={self._password.read_text()}]"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokerFailed(f"the broker's folder could not be made: {done.stdout}{done.stderr}")

    def _java(self, jars: Path, heap: str) -> list[str]:
        # The first tier of the compiler alone, and one collector thread: quick to start, and quiet on few cores.
        light = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        quiet = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.log.kafka.server=info"]
        return ["java", heap, *light, *quiet, "-cp", f"{jars}/*"]

    def _said_since(self, position: int) -> str:
        with self.log.open("rb") as log:
            log.seek(position)
            return log.read().decode(errors="replace")


def _listed(form: str, ports: Sequence[int]) -> str:
    """The form filled in with the number and the port of each door."""
    return "".join(form.format(number, port) for number, port in enumerate(ports))


def main() -> None:
    """The command line: `fetch` the jars, or `run` a broker until Ctrl-C."""
    parser = argparse.ArgumentParser(description="One Apache Kafka broker on this machine, for development.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="Fetch the jars and end.")
    run = commands.add_parser("run", help="Run a broker until Ctrl-C.")
    run.add_argument("--folder", type=Path, default=Path("build/kafka"), help="Where it keeps its data.")
    run.add_argument("--port", type=int, default=9092, help="Port on 127.0.0.1; 0 takes a free one.")
    run.add_argument("--secured", action="store_true", help="TLS only: SCRAM-SHA-512, and client certificates.")
    arguments = parser.parse_args()
    try:
        if arguments.command == "fetch":
            print(fetch())
        else:
            _run(arguments.folder.absolute(), arguments.port, arguments.secured)
    except BrokerFailed as error:
        sys.exit(f"kafka: {error}")


def _run(folder: Path, port: int, secured: bool) -> None:
    broker = Broker(folder, port=port, secured=secured)
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    with broker:
        print(f"Kafka answers on {broker.address}; Ctrl-C ends it.", flush=True)
        if secured:
            print(f"Clients need {broker.settings('scram')} or {broker.settings('mtls')}.", flush=True)
        while not stop and broker.pid:
            time.sleep(PAUSE_S)
    if not stop:
        raise BrokerFailed(f"the broker ended by itself; see {broker.log}")


if __name__ == "__main__":
    main()
