"""A real HDFS on this machine: one NameNode, one DataNode, small heaps, nothing left behind.

The daemons are the ones of Hadoop's own minicluster jar with the Hadoop client that Spark brings.
They start with their process's death tied to the test run's, so that a killed run leaves none.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen
from zipfile import ZIP_STORED, ZipFile

import pyspark

ROOT = Path(__file__).resolve().parents[2]
TEST_JARS = ROOT / "jars" / "test"
SPARK_JARS = Path(pyspark.__file__).parent / "jars"
# Of Spark's jars only what the daemons need: the rest costs class loading.
SPARK_JAR_PREFIXES = ("hadoop-client-", "slf4j-api", "log4j-", "jcl-over-slf4j", "snappy-java")
LARGE_JAR_BYTES = 10_000_000
START_SECONDS = 240.0
PR_SET_PDEATHSIG = 1
FIRST_PORT, PORTS_OF_A_WORKER = 20_000, 1_500
LOG4J = """\
appender.audit.type = File
appender.audit.name = audit
appender.audit.fileName = {audit_log}
appender.audit.layout.type = PatternLayout
appender.audit.layout.pattern = %m%n
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{{1}}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.audit.name = org.apache.hadoop.hdfs.server.namenode.FSNamesystem.audit
logger.audit.level = info
logger.audit.additivity = false
logger.audit.appenderRef.audit.ref = audit
"""


def jars_missing() -> str:
    """Return why no HDFS can start here, with the remedy; empty if it can."""
    if any(TEST_JARS.glob("*hadoop-client-minicluster*.jar")):
        return ""
    return f"No Hadoop daemons in {TEST_JARS}: run `make setup`."


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on now, and that no other test process returns."""
    return list(itertools.islice(filter(_is_free, _PORTS), count))


def _own_ports() -> Iterator[int]:
    """Yield the ports of this test process in turn, from below those that the kernel gives away."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST_PORT + PORTS_OF_A_WORKER * worker
    start = os.getpid() % PORTS_OF_A_WORKER  # two test runs at once begin apart
    offsets = itertools.count(start)
    return (first + offset % PORTS_OF_A_WORKER for offset in offsets)


def _is_free(port: int) -> bool:
    with socket.socket() as one, contextlib.suppress(OSError):
        one.bind(("127.0.0.1", port))
        return True
    return False


_PORTS = _own_ports()


def java() -> str:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else shutil.which("java") or "java"


def is_running(pid: int) -> bool:
    """Return whether the process exists and has not ended (a zombie has)."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def die_with_parent() -> None:
    """Run in the child before exec: the kernel kills it when the test run is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], *, of: Sequence[Daemon]) -> None:
    """Wait until these daemons have brought it about, unless one of them ends."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        for daemon in of:
            daemon.check_alive()
        if time.monotonic() > deadline:
            names = " and ".join(daemon.name for daemon in of)
            raise TimeoutError(f"{names}: not ready after {START_SECONDS:.0f} s, see {of[0].log}")
        time.sleep(0.1)


@dataclass
class Daemon:
    """One Hadoop process that a test may kill, pause and start again; `before` runs its command."""

    name: str
    main_class: str
    classpath: str
    log: Path
    before: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def run(self, *arguments: str) -> subprocess.Popen[bytes]:
        options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        command = [java(), *options, "-cp", self.classpath, self.main_class, *arguments]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self.before, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509  # no threads run in the child
            )

    def start(self) -> None:
        self.process = self.run()

    def kill(self) -> None:
        """Take the process away without warning, as a lost machine would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def end(self) -> None:
        """Ask the process to end, and wait until it has."""
        self._signal(signal.SIGTERM)
        if self.process is not None:
            self.process.wait()

    def pause(self) -> None:
        """Stop answering without closing connections, as a hung machine would."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def check_alive(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            end = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"The {self.name} ended at once: {end}")

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)


class Hdfs:
    """A NameNode and a DataNode with their addresses.

    Attributes:
        uri: `hdfs://127.0.0.1:PORT`, for Spark.
        web_uri: `http://127.0.0.1:PORT`, for the `hdfs` package's clients (WebHDFS).
        name_node: the process that knows the names; `data_node` holds the bytes.
        audit_log: the NameNode's own record of every operation.
    """

    def __init__(self, folder: Path, *, settings: Mapping[str, str] | None = None) -> None:
        rpc, web, *data_ports = free_ports(5)
        self.uri = f"hdfs://127.0.0.1:{rpc}"
        self.web_uri = f"http://127.0.0.1:{web}"
        self._data_web_uri = f"http://127.0.0.1:{data_ports[1]}"
        self.audit_log = folder / "audit.log"
        self.configuration = folder / "conf"
        self._data = folder / "data"
        self._write_configuration(folder, data_ports, settings or {})
        classpath = os.pathsep.join(map(str, [self.configuration, *hadoop_jars()]))
        package = "org.apache.hadoop.hdfs.server"
        self.name_node = Daemon(
            "NameNode", f"{package}.namenode.NameNode", classpath, folder / "name_node.log"
        )
        self.data_node = Daemon(
            "DataNode", f"{package}.datanode.DataNode", classpath, folder / "data_node.log"
        )

    def start(self) -> None:
        """Format the NameNode, start both daemons and wait until files can be written."""
        if self.name_node.run("-format", "-nonInteractive").wait() != 0:
            raise RuntimeError(f"The NameNode can't be formatted: see {self.name_node.log}")
        self.name_node.start()
        self.data_node.start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait for a live DataNode outside safe mode; call it after starting a daemon again."""
        self._wait_until(self._is_ready)

    def lose_blocks(self, contents: Collection[bytes]) -> None:
        """Let the bytes of these small files be gone from the disk, which the NameNode knows."""
        self.data_node.kill()
        lost = [one for one in self._data.rglob("blk_*") if one.read_bytes() in contents]
        for block in lost:
            block.unlink()
        self.data_node.start()
        self._wait_until(lambda: self._missing_blocks() == len(lost) == len(contents))

    def damage_block(self, content: bytes) -> None:
        """Turn a bit of a small file on the disk."""
        (block,) = [one for one in self._data.rglob("blk_*") if one.read_bytes() == content]
        block.write_bytes(bytes([content[0] ^ 1]) + content[1:])

    def stop(self) -> None:
        self.data_node.kill()
        self.name_node.kill()

    def administer(self, *arguments: str) -> None:
        """Run `hdfs dfsadmin`."""
        classpath = self.name_node.classpath
        tool = Daemon(
            "DFSAdmin", "org.apache.hadoop.hdfs.tools.DFSAdmin", classpath, self.name_node.log
        )
        if tool.run(*arguments).wait() != 0:
            raise RuntimeError(f"dfsadmin {' '.join(arguments)} failed: see {tool.log}")

    def audit_mark(self) -> int:
        """Return a mark to hand to `audited` later."""
        return self.audit_log.stat().st_size if self.audit_log.exists() else 0

    def opened_files(self, since: int = 0) -> list[str]:
        """Return the paths that any client opened for reading since the mark, in order."""
        return self.audited("open", since)

    def audited(self, command: str, since: int = 0) -> list[str]:
        """Return the paths that a command of the NameNode was called for since the mark."""
        with self.audit_log.open("rb") as log:
            log.seek(since)
            lines = log.read().decode("utf-8").splitlines()
        fields = [
            dict(part.split("=", 1) for part in line.split("\t") if "=" in part) for line in lines
        ]
        return [one["src"] for one in fields if one.get("cmd") == command]

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        wait_for(condition, of=(self.name_node, self.data_node))

    def _missing_blocks(self) -> int:
        return int(_read_bean(self.web_uri, "NameNode")["NumberOfMissingBlocks"])

    def _is_ready(self) -> bool:
        try:
            names = _read_bean(self.web_uri, "NameNode")
            data = _read_bean(self._data_web_uri, "DataNode")
        except (URLError, OSError, IndexError):
            return False
        registered = '"ActorState":"RUNNING"' in data.get("BPServiceActorInfo", "")
        return names.get("Safemode") == "" and registered and names.get("LiveNodes") != "{}"

    def _write_configuration(
        self, folder: Path, data_ports: list[int], settings: Mapping[str, str]
    ) -> None:
        address, data_web, ipc = (f"127.0.0.1:{port}" for port in data_ports)
        self.configuration.mkdir(parents=True)
        write_xml(self.configuration / "core-site.xml", {"fs.defaultFS": self.uri})
        write_xml(
            self.configuration / "hdfs-site.xml",
            {
                "dfs.namenode.http-address": self.web_uri.removeprefix("http://"),
                "dfs.namenode.name.dir": f"{folder}/name",
                "dfs.datanode.data.dir": str(self._data),
                "dfs.datanode.address": address,
                "dfs.datanode.http.address": data_web,
                "dfs.datanode.ipc.address": ipc,
                "dfs.datanode.hostname": "127.0.0.1",
                "dfs.replication": "1",
                "dfs.heartbeat.interval": "1",  # seconds
                "dfs.namenode.heartbeat.recheck-interval": "1000",  # ms: a dead node shows soon
                "dfs.namenode.safemode.extension": "0",  # ms
                "dfs.namenode.safemode.min.datanodes": "1",
                "dfs.namenode.audit.log.async": "false",  # a test reads the log right away
                "dfs.namenode.fs-limits.min-block-size": "0",
                "dfs.datanode.du.reserved": "0",
                **settings,
            },
        )
        (self.configuration / "log4j2.properties").write_text(
            LOG4J.format(audit_log=self.audit_log), encoding="utf-8"
        )


def hadoop_jars() -> list[Path]:
    """Return the jars that Hadoop's daemons need."""
    spark_jars = (
        jar for jar in SPARK_JARS.glob("*.jar") if jar.name.startswith(SPARK_JAR_PREFIXES)
    )
    return [_uncompressed(jar) for jar in sorted((*TEST_JARS.glob("*.jar"), *spark_jars))]


def _uncompressed(jar: Path) -> Path:
    """Return a copy without compression: the NameNode's web server reads its jars in full."""
    if jar.stat().st_size < LARGE_JAR_BYTES:
        return jar
    copy = TEST_JARS / "uncompressed" / jar.name
    if not copy.exists():
        copy.parent.mkdir(exist_ok=True)
        part = copy.with_suffix(f".{os.getpid()}")
        with ZipFile(jar) as source, ZipFile(part, "w", ZIP_STORED) as target:
            for name in source.namelist():
                target.writestr(name, source.read(name))
        part.rename(copy)
    return copy


def _read_bean(web_uri: str, service: str) -> dict[str, str]:
    query = f"{web_uri}/jmx?qry=Hadoop:service={service},name={service}Info"
    with urlopen(query, timeout=5) as answer:
        bean: dict[str, str] = json.load(answer)["beans"][0]
    return bean


def write_xml(path: Path, properties: Mapping[str, str]) -> None:
    """Write one of Hadoop's configuration files."""
    entries = "".join(
        f"<property><name>{name}</name><value>{value}</value></property>\n"
        for name, value in properties.items()
    )
    path.write_text(f"<configuration>\n{entries}</configuration>\n", encoding="utf-8")


@contextlib.contextmanager
def running_hdfs(folder: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[Hdfs]:
    """Yield a ready HDFS that keeps its files in the folder and ends with the block."""
    hdfs = Hdfs(folder, settings=settings)
    try:
        hdfs.start()
        yield hdfs
    finally:
        hdfs.stop()
