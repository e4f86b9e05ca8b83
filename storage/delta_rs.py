"""Asking delta-rs about a lake's tables, where it reaches them as Hadoop's client does.

It answers in hundredths of a second what a new session's Spark takes seconds for. Whoever asks must
be able to ask Spark instead.
"""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from storage.abandoned import abandon, is_abandoned
from storage.hdfs_address import hdfs_address
from storage.paths import is_local
from storage.without_spark import as_url

MOST_SECONDS = 30  # for an answer; it may wait for ever for a server that is dead

T = TypeVar("T")
log = logging.getLogger("captionlake")


def ask_delta_rs(spark: SparkSession, uri: str, question: Callable[[DeltaTable], T]) -> T | None:
    """Return the answer about the Delta table at a qualified path; None where Spark must be asked.

    That is where delta-rs doesn't reach the table, fails, whatever the reason, or is silent for
    half a minute; of a table about which it was, it isn't asked again.
    """
    options = None if is_abandoned(uri) else _options(spark, uri)
    if options is None:
        return None
    answer: Future[T | None] = Future()

    def ask() -> None:
        try:
            answer.set_result(question(DeltaTable(as_url(uri), storage_options=options)))
        except BaseException as error:  # noqa: BLE001  # its panics are no Exception
            log.debug("Spark reads %s, since delta-rs can't: %s", uri, error)
            answer.set_result(None)

    # A daemon: one that waits for a dead server must not keep the process from ending.
    Thread(target=ask, daemon=True, name="delta-rs").start()
    try:
        return answer.result(timeout=MOST_SECONDS)
    except TimeoutError:
        log.warning("Spark reads %s, since delta-rs had no answer in %d s", uri, MOST_SECONDS)
        abandon(uri)
        return None


def _options(spark: SparkSession, uri: str) -> dict[str, str] | None:
    """Return how delta-rs reaches a path; None if only Hadoop's client does."""
    if "%" in uri or "\\" in uri:  # it decodes paths twice, and takes the other for a slash
        return None
    if is_local(uri):
        return {}
    address = hdfs_address(spark, [uri])
    if address is None or address.user != _own_user():
        return None
    return dict(address.configuration)


def _own_user() -> str:
    """Return whom an HDFS takes this process's clients for."""
    try:
        return os.environ.get("HADOOP_USER_NAME") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        return ""
