"""The environments of conf/, read as jobs and spark-submit.sh read them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from unittest.mock import Mock

import pytest

from conf.environments import CONF_FOLDER, Environment, environment_names, load_environment
from conf.errors import UsageError
from conf.settings import CaptionSettings
from jobs.inference import count_decode_threads, inference_of

ROOT = Path(__file__).resolve().parents[2]
NAMES = environment_names()


def test_every_documented_environment_is_there() -> None:
    clusters = ("standalone", "yarn", "kubernetes")
    assert set(NAMES) == {"local", *clusters, *(f"{name}-gpu" for name in clusters)}


@pytest.mark.parametrize("name", NAMES)
def test_job_values_are_settings_that_validate(name: str) -> None:
    CaptionSettings.model_validate(load_environment(name).job)


@pytest.mark.parametrize("name", NAMES)
def test_every_environment_writes_delta_tables_in_utc(name: str) -> None:
    spark = load_environment(name).spark
    assert "DeltaSparkSessionExtension" in spark["spark.sql.extensions"]
    assert spark["spark.sql.session.timeZone"] == "UTC"


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("-gpu")])
def test_a_gpu_executor_is_one_gpu_and_one_slot(name: str) -> None:
    environment = load_environment(name)
    assert environment.spark["spark.executor.resource.gpu.amount"] == "1"
    assert environment.spark["spark.task.resource.gpu.amount"] == "1"
    assert environment.spark["spark.task.cpus"] == environment.spark["spark.executor.cores"]
    settings = CaptionSettings.model_validate(environment.job)
    cores = int(environment.spark["spark.task.cpus"])
    assert count_decode_threads(settings, cores=cores) == cores - 1
    chosen = settings.model_copy(update={"decode_threads": 3})
    assert count_decode_threads(chosen, cores=cores) == 3


def test_the_cores_of_a_task_on_a_gpu_reach_the_worker() -> None:
    environment = load_environment("standalone-gpu")
    spark = Mock()
    spark.sparkContext.getConf().get = environment.spark.get
    settings = CaptionSettings.model_validate(environment.job)
    inference = inference_of(spark, settings, ["file:/a"], archive="model", memory=Mock())
    assert inference.plan.decode_threads == int(environment.spark["spark.task.cpus"]) - 1 == 7


def test_a_cpu_decodes_in_the_thread_that_captions() -> None:
    settings = CaptionSettings.model_validate(load_environment("local").job)
    assert count_decode_threads(settings, cores=4) == 0


@pytest.mark.parametrize("path", sorted(CONF_FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_a_file_holds_only_the_two_tables(path: Path) -> None:
    assert set(tomllib.loads(path.read_text())) <= {"job", "spark"}


def test_an_unknown_environment_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no environment 'mars'.*local"):
        load_environment("mars")


def test_what_all_share_is_no_environment() -> None:
    with pytest.raises(UsageError):
        load_environment("common")


def test_a_backslash_survives_the_properties_file() -> None:
    environment = Environment("made-up", {}, {"spark.a": "C:\\b", "spark.c": "d e"})
    assert environment.as_properties_file() == "spark.a C:\\\\b\nspark.c d e\n"


def test_the_module_prints_the_properties_for_spark_submit() -> None:
    command = [sys.executable, "-m", "conf.environments", "local"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed == load_environment("local").as_properties_file()
