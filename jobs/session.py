"""The one place that builds a SparkSession."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark import SparkConf
from pyspark.sql import SparkSession

from conf.errors import EnvironmentFault


def build_session(job: str, properties: Mapping[str, str]) -> SparkSession:
    """Return the session of a job.

    Args:
        job: the application's name.
        properties: Spark properties of the environment; what spark-submit was told outweighs them.

    Raises:
        EnvironmentFault: Spark can't start here.
    """
    already_set = {key for key, _ in SparkConf().getAll()}
    builder = SparkSession.builder.appName(f"captionlake-{job}")
    for key, value in properties.items():
        if key not in already_set:
            builder = builder.config(key, value)
    try:
        return builder.getOrCreate()
    except Exception as failure:  # the JVM gateway raises bare exceptions
        reason = str(failure).strip().splitlines()
        raise EnvironmentFault(
            f"Spark doesn't start: {reason[0] if reason else type(failure).__name__}.",
            remedy="Start jobs with ./spark-submit.sh, which checks Java and fetches the jars.",
        ) from failure
