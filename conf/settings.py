"""What each job can be told: frozen, validated settings whose names carry their units.

A field's description is its `--help` text, its name is its option (`chunk_files` is
`--chunk-files`), and its type is checked once, here. `conf.resolve` decides where each value comes
from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from uuid import uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_MODEL = str(REPOSITORY / "models" / "default")
RUN_ID_PATTERN = re.compile(r"[A-Za-z0-9._:+-]{1,200}")

MEBIBYTE = 2**20
OnClaimed = Literal["wait", "skip", "fail"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _refuse_odd_run_id(value: str) -> str:
    if not RUN_ID_PATTERN.fullmatch(value):
        raise ValueError("takes up to 200 letters, digits and . _ : + -")
    return value


RunId = Annotated[str, AfterValidator(_refuse_odd_run_id)]


class Settings(BaseModel):
    """Base of every job's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(Settings):
    """Which model speaks, and how it decodes."""

    model: str = Field(
        DEFAULT_MODEL,
        description="model package folder, or a registry URI such as models:/captioner@champion",
    )
    tracking_uri: str | None = Field(
        None, description="MLflow server or store; default MLFLOW_TRACKING_URI, else mlflow.db here"
    )
    runtime: Literal["openvino", "keras"] = Field(
        "openvino", description="openvino for CPU executors, keras for GPU executors"
    )
    precision: Literal["int8", "bf16", "float32"] = Field(
        "int8", description="arithmetic of the model; part of the pipeline version"
    )
    beam_width: int = Field(1, ge=1, le=16, description="1 is greedy decoding")
    device: Literal["cpu", "gpu"] = Field(
        "cpu", description="gpu: the one that Spark gives each task; a missing one is an error"
    )
    inference_batch_images: int = Field(
        64,
        ge=1,
        le=4096,
        description="images captioned together, best 64 for each of --threads-per-task; no effect "
        "on the captions",
    )
    threads_per_task: int = Field(
        1, ge=1, description="threads the model uses inside one Spark task"
    )


class DecodeSettings(Settings):
    """What a file may cost before it is refused."""

    max_file_bytes: int = Field(
        256 * MEBIBYTE, ge=1, description="larger files are rejected unread (too_large)"
    )
    max_pixels: int = Field(
        128_000_000, ge=1, description="larger images are rejected undecoded (too_large)"
    )
    decode_timeout_seconds: float = Field(
        60.0, gt=0, description="longest time one image may take to decode"
    )


class WorkerSettings(ModelSettings, DecodeSettings):
    """How the tasks that caption are cut and run."""

    partition_files: int = Field(
        256,
        ge=1,
        description="most files per Spark task, best a multiple of --inference-batch-images; the "
        "tasks of a run's first commit and of its last hold one batch, or 64 files",
    )
    decode_threads: int | None = Field(
        None,
        ge=0,
        description="threads that decode ahead of the model in a task; 0 decodes inline (default: "
        "0 on a CPU; beside a GPU all cores of the task but the one that feeds it)",
    )
    hdfs_reader: Literal["worker", "spark"] = Field(
        "worker",
        description="who reads files on HDFS; Spark does in any case where there is Kerberos, and "
        "where a worker fails to",
    )


class CaptionSettings(WorkerSettings):
    """Settings of `caption_images`."""

    input: str | None = Field(
        None, description="directory, file or glob on hdfs://, file:// or any Hadoop filesystem"
    )
    lake: str | None = Field(None, description="folder of the Delta tables, created if missing")
    include: str | None = Field(None, description="only file names that match this glob")
    require_success: bool = Field(
        False, description="refuse a batch folder that has no _SUCCESS marker yet"
    )
    run_id: RunId = Field(
        default_factory=lambda: uuid4().hex,
        description="name of this run; one that already succeeded passes at once",
    )
    batch_depth: int | None = Field(
        None,
        ge=0,
        description="leading path components that don't name the batch; fixed when the lake is "
        "created (default: up to the parent of the input)",
    )
    summary_json: str | None = Field(None, description="write the run's figures to this URI")
    on_claimed: OnClaimed = Field(
        "wait", description="what to do where another live run works on the same batch"
    )
    max_pending: int | None = Field(
        None, ge=0, description="stop before work if more images than this are pending"
    )
    max_rejected_share: Share = Field(
        1.0, description="fail the run, after committing, past this share of rejected images"
    )
    retry_limit: int = Field(
        3, ge=0, description="runs that try a transient reject again before it is final"
    )
    dry_run: bool = Field(False, description="tell what is pending and stop")
    chunk_files: int | None = Field(
        None,
        ge=1,
        description="files per commit; a killed run loses at most about one chunk (default: 2048, "
        "or --partition-files for each task slot where that is more)",
    )
    chunk_bytes: int | None = Field(
        None,
        ge=1,
        description="bytes per commit (default: 1 GiB, or 256 MiB for each task slot where that is "
        "more)",
    )
