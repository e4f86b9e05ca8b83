"""The one place that builds a SparkSession."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from conf.environments import Environment
from conf.errors import EnvironmentFault
from jobs.stopping import Stop

# Set in a driver that spark-submit started. spark-submit.sh hands it the environment's properties
# beneath the user's own options; set again here, they would outweigh those.
SPARK_SUBMIT_VARIABLE = "PYSPARK_GATEWAY_PORT"


@contextmanager
def session(job: str, environment: Environment, stop: Stop) -> Iterator[SparkSession]:
    """Yield the session of a job, and stop it at the end.

    What spark-submit was told outweighs the environment's properties.

    Raises:
        EnvironmentFault: Spark can't start here.
    """
    spark = build_session(job, environment)
    try:
        with stop.cancelling(spark.sparkContext):
            yield spark
    finally:
        spark.stop()


def task_slots(spark: SparkSession) -> int:
    """Return how many tasks run at once: an executor's cores may all belong to one task."""
    return max(1, spark.sparkContext.defaultParallelism // slot_cores(spark))


def slot_cores(spark: SparkSession) -> int:
    """Return how many cores a task has to itself."""
    return int(spark.sparkContext.getConf().get("spark.task.cpus", "1") or 1)


def build_session(job: str, environment: Environment) -> SparkSession:
    """Return the running session of this process, or start one."""
    builder = SparkSession.builder.appName(f"captionlake-{job}")
    if SPARK_SUBMIT_VARIABLE not in os.environ:
        builder = builder.config(map=dict(environment.spark))
    try:
        return builder.getOrCreate()
    except (PySparkException, Py4JError) as failure:
        reason = str(failure).strip().splitlines()
        raise EnvironmentFault(
            f"Spark doesn't start: {reason[0] if reason else type(failure).__name__}.",
            remedy="Start jobs with ./spark-submit.sh, which checks Java and fetches the jars.",
        ) from failure
