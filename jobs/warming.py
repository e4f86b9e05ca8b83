"""Getting the workers ready while the driver is still at its bookkeeping."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from py4j.protocol import Py4JError
from pyspark import inheritable_thread_target
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from conf.settings import WorkerSettings
from jobs.inference import shipped_model
from jobs.shipping import shipped_package
from models.images import DecodeLimits
from models.package import ModelPackage
from udfs.budget import Account
from udfs.caption import CaptionPlan, CaptionWorker, RuntimeFactory
from udfs.outcome import OUTCOME_DDL
from udfs.sources import AssignedLocalFiles


@contextmanager
def warm_workers(
    spark: SparkSession,
    settings: WorkerSettings,
    package: ModelPackage,
    *,
    pending: int,
    account: Account,
) -> Iterator[str]:
    """Ship the model and let the workers load it already; yield its archive's name.

    With nothing pending, nothing is shipped and no model is loaded.
    """
    if pending == 0:
        yield ""
        return
    with shipped_package(spark, package) as archive:
        _begin_loading(spark, shipped_model(settings, archive), account=account)
        yield archive


def _begin_loading(spark: SparkSession, model: RuntimeFactory, *, account: Account) -> None:
    """Run a task without files in each slot, which starts its Python worker and loads the model.

    What goes wrong here goes wrong again in the first chunk, and is told there.
    """
    slots = spark.sparkContext.defaultParallelism
    plan = CaptionPlan(model, DecodeLimits(), batch_images=1, decode_threads=0)
    worker = CaptionWorker(AssignedLocalFiles([[]] * slots, max_bytes=0), plan, account=account)

    def load() -> None:
        with suppress(Py4JError, PySparkException):
            spark.range(0, slots, 1, slots).mapInArrow(worker, OUTCOME_DDL).toArrow()

    target = inheritable_thread_target(spark)(load)
    threading.Thread(target=target, name="warming", daemon=True).start()
