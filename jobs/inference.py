"""Running the caption worker over chunks on Spark, ahead of the commits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from conf.settings import WorkerSettings
from jobs.chunks import Chunk, assign_units
from jobs.files import Files, HdfsFiles, files_of, is_unreadable
from jobs.image_memory import ImageMemory
from jobs.session import slot_cores, task_slots
from models.images import DecodeLimits
from models.reasons import Reason
from storage.hadoop import JAVA_ERRORS
from storage.unreadable import unreadable_among
from udfs.budget import Account, ignore
from udfs.caption import CaptionPlan, CaptionWorker, ShippedModel, as_batch, exclude_nothing
from udfs.outcome import OUTCOME_SCHEMA, Outcome

SHORT_TASK_FILES = 64
_OUTCOMES = from_arrow_schema(OUTCOME_SCHEMA)  # a new session takes long to parse the same in SQL


@dataclass(frozen=True)
class Inference:
    """Turns a chunk into outcomes.

    Attributes:
        spark: the session.
        files: how the files reach the workers.
        plan: what the workers need.
        memory: images that need no inference.
        unit_files: most files per Spark task.
        max_file_bytes: larger files aren't read.
        account: is told where each task's time went.
    """

    spark: SparkSession
    files: Files
    plan: CaptionPlan
    memory: ImageMemory
    unit_files: int
    max_file_bytes: int
    account: Account = ignore

    def outcomes(self, chunk: Chunk) -> pa.Table:
        """Return one row of `OUTCOME_SCHEMA` per file that was read or is too large, in any order.

        Raises:
            EnvironmentFault: the chunk failed as a whole.
        """
        is_large = pc.greater(chunk.files.column("file_size_bytes"), self.max_file_bytes)
        refused = refuse_large(chunk.files.filter(is_large), max_file_bytes=self.max_file_bytes)
        read = self._read(replace(chunk, files=chunk.files.filter(pc.invert(is_large))))
        return pa.concat_tables([refused, read])

    def _read(self, chunk: Chunk) -> pa.Table:
        """Run the chunk, and once more by Spark what the workers couldn't read themselves."""
        returned = self._run(chunk, self.files)
        if not isinstance(self.files, HdfsFiles):
            return returned
        is_unread = is_unreadable(returned)
        read, unread = returned.filter(pc.invert(is_unread)), returned.filter(is_unread)
        left = pc.is_in(chunk.files.column("path"), unread.column("path").combine_chunks())
        again = self._run(
            replace(chunk, files=chunk.files.filter(left)),
            self.files.by_spark,
            witnesses=read.column("path").to_pylist(),
        )
        self.files.learn(unread, again, of_files=chunk.files.num_rows)
        return pa.concat_tables([read, again])

    def _run(self, chunk: Chunk, source: Files, *, witnesses: Sequence[str] = ()) -> pa.Table:
        """Run the chunk, again without the files that it stumbles over."""
        files = chunk.files
        while files.num_rows:
            try:
                return self._run_once(replace(chunk, files=files), source)
            except JAVA_ERRORS as error:
                paths = files.column("path")
                bad = unreadable_among(self.spark, paths.to_pylist(), error, witnesses=witnesses)
                files = files.filter(pc.invert(pc.is_in(paths, pa.array(sorted(bad)))))
        return OUTCOME_SCHEMA.empty_table()

    def _run_once(self, chunk: Chunk, files: Files) -> pa.Table:
        unit_files = self.unit_files
        if chunk.is_awaited:
            unit_files = min(unit_files, max(SHORT_TASK_FILES, self.plan.batch_images))
        units = assign_units(chunk.files, unit_files=unit_files, slots=task_slots(self.spark))
        largest_bytes = pc.max(chunk.files["file_size_bytes"]).as_py() or 0
        frame, source = files.assign(units, largest_bytes=largest_bytes)
        worker = CaptionWorker(source, self.plan, self.memory.snapshot(), self.account)
        return frame.mapInArrow(worker, _OUTCOMES).toArrow().cast(OUTCOME_SCHEMA)

    def without_known_images(self) -> Inference:
        """Return the same inference, which also infers images that have a caption already."""
        return replace(self, memory=ImageMemory(self.spark.sparkContext))


def refuse_large(files: pa.Table, *, max_file_bytes: int) -> pa.Table:
    """Return the outcomes of files that were listed as too large: they aren't opened at all."""
    listed = zip(
        files.column("path").to_pylist(), files.column("file_size_bytes").to_pylist(), strict=True
    )
    refused = [
        Outcome(
            path,
            reason=Reason.TOO_LARGE,
            detail=f"{size_bytes} bytes, at most {max_file_bytes} are read",
        )
        for path, size_bytes in listed
    ]
    return pa.Table.from_batches([as_batch(refused)])


def count_decode_threads(settings: WorkerSettings, *, cores: int) -> int:
    """Return how many threads decode ahead of the model in a task that has so many cores.

    One core feeds the GPU, and the others would have nothing to do. On a CPU the model needs them.
    """
    if settings.decode_threads is not None:
        return settings.decode_threads
    return cores - 1 if settings.device == "gpu" else 0


def inference_of(
    spark: SparkSession,
    settings: WorkerSettings,
    paths: Sequence[str],
    *,
    archive: str,
    memory: ImageMemory,
    account: Account = ignore,
    is_excluded: Callable[[str], bool] = exclude_nothing,
) -> Inference:
    """Return the inference over these files, with the model that was shipped as `archive`."""
    model = ShippedModel(
        archive=archive,
        runtime=settings.runtime,
        precision=settings.precision,
        beam_width=settings.beam_width,
        threads=settings.threads_per_task,
        on_gpu=settings.device == "gpu",
    )
    limits = DecodeLimits(
        max_file_bytes=settings.max_file_bytes,
        max_pixels=settings.max_pixels,
        timeout_seconds=settings.decode_timeout_seconds,
    )
    threads = count_decode_threads(settings, cores=slot_cores(spark))
    return Inference(
        spark=spark,
        files=files_of(spark, settings, paths, decode_threads=threads),
        plan=CaptionPlan(
            model=model,
            limits=limits,
            batch_images=settings.inference_batch_images,
            decode_threads=threads,
            is_excluded=is_excluded,
        ),
        memory=memory,
        unit_files=settings.partition_files,
        max_file_bytes=settings.max_file_bytes,
        account=account,
    )
