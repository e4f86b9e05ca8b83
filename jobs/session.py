"""The one place that builds a SparkSession."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JError
from pyspark import SparkConf
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from conf.environments import Environment
from conf.errors import EnvironmentFault


@contextmanager
def session(job: str, environment: Environment) -> Iterator[SparkSession]:
    """Yield the session of a job, and stop it at the end.

    What spark-submit was told outweighs the environment's properties.

    Raises:
        EnvironmentFault: Spark can't start here.
    """
    spark = build_session(job, environment)
    try:
        yield spark
    finally:
        spark.stop()


def build_session(job: str, environment: Environment) -> SparkSession:
    """Return the running session of this process, or start one."""
    already_set = {key for key, _ in SparkConf().getAll()}
    builder = SparkSession.builder.appName(f"captionlake-{job}")
    for key, value in environment.spark.items():
        if key not in already_set:
            builder = builder.config(key, value)
    try:
        return builder.getOrCreate()
    except (PySparkException, Py4JError) as failure:
        reason = str(failure).strip().splitlines()
        raise EnvironmentFault(
            f"Spark doesn't start: {reason[0] if reason else type(failure).__name__}.",
            remedy="Start jobs with ./spark-submit.sh, which checks Java and fetches the jars.",
        ) from failure
