"""Whether workers can read a run's files from HDFS themselves, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyspark.sql import SparkSession

from conf.filesystem import HdfsAddress
from storage.hadoop import file_system, java_class

_PROPERTIES = ("dfs.client.use.datanode.hostname", "dfs.data.transfer.protection")
_TIMEOUT = "dfs.client.socket-timeout"
# Hadoop's minute is as long as a worker waits for a file: none would be left for another DataNode.
_MOST_TIMEOUT_MS = 15_000
_PREFIXES = ("dfs.ha.namenodes.", "dfs.namenode.rpc-address", "dfs.client.failover.")


def hdfs_address(spark: SparkSession, paths: Sequence[str]) -> HdfsAddress | None:
    """Return how to read these qualified paths without Hadoop's client; None if only it can.

    It alone can read from a Kerberos cluster (the executors' JVMs hold the tokens), over an
    encrypted connection, or through a filesystem that only looks like HDFS.
    """
    uri = _authority_of(paths[0])
    if not uri or any(not path.startswith(f"{uri}/") for path in paths):
        return None
    system = file_system(spark, paths[0])
    settings = system.getConf()
    users: Any = java_class(spark, "org.apache.hadoop.security.UserGroupInformation")
    if (
        system.getClass().getSimpleName() != "DistributedFileSystem"
        or users.isSecurityEnabled()
        or settings.getBoolean("dfs.encrypt.data.transfer", False)
    ):
        return None
    found = {name: settings.get(name) for name in _PROPERTIES}
    found[_TIMEOUT] = min(settings.getInt(_TIMEOUT, _MOST_TIMEOUT_MS), _MOST_TIMEOUT_MS)
    for prefix in _PREFIXES:
        entries = settings.getPropsWithPrefix(prefix)
        found |= {f"{prefix}{name}": entries[name] for name in entries}
    return HdfsAddress(
        uri,
        _user(spark, users),
        tuple(sorted((name, str(value)) for name, value in found.items() if value)),
    )


def _user(spark: SparkSession, users: Any) -> str:
    """Return whom the HDFS takes a task for: an executor doesn't ask Hadoop who it is."""
    context: Any = spark.sparkContext
    is_local = context._jsc.sc().isLocal()
    return str(users.getCurrentUser().getShortUserName() if is_local else context.sparkUser())


def _authority_of(path: str) -> str:
    """Return `hdfs://AUTHORITY`; empty for another filesystem."""
    scheme, _, rest = path.partition("://")
    authority = rest.partition("/")[0]
    return f"hdfs://{authority}" if scheme == "hdfs" and authority else ""
