"""Models in an MLflow registry: find, register, compare, promote, roll back.

Packages travel as plain files and are verified when opened; MLflow's loaders, which would run
code from the store, are never called. MLflow is imported only when a registry is meant.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.errors import ModelError
from models.package import ModelPackage, open_package

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
REGISTERED_NAME = "captioner"
CHAMPION = "champion"
GATE_FIGURE = "cider"

_SCHEME = "models:/"
_ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)")
_NUMBER = re.compile(r"models:/(?P<name>[^/@]+)/(?P<number>\d+)")
# Tags of a version: its figures, the data they were measured on, whom it followed as champion.
_FIGURE_TAG, _DEV_SET_TAG, _BEFORE_TAG = "dev.", "dev_set", "champion_before"


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model, with its figures on the dev set it was measured on."""

    number: int
    model_version: str
    dev_set: str
    figures: Mapping[str, float]
    is_champion: bool


def choose_tracking_uri(tracking_uri: str | None) -> str:
    """What was asked for, else MLFLOW_TRACKING_URI, else an SQLite file right here."""
    return tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING_URI


def resolve_model(uri: str, *, tracking_uri: str | None = None) -> Path:
    """Local folder of a package: a path as it is, or models:/NAME@ALIAS or models:/NAME/3 fetched.

    A fetched package is gone when the process ends. Raises ModelError.
    """
    if not uri.startswith(_SCHEME):
        return Path(uri)
    with _registry(tracking_uri) as client:
        return _download(client, _find_version(client, uri))


def list_versions(
    *, name: str = REGISTERED_NAME, tracking_uri: str | None = None
) -> list[RegisteredVersion]:
    """Every version, the newest first; raises ModelError."""
    with _registry(tracking_uri) as client:
        champion = _champion(client, name)
        found = client.search_model_versions(f"name = '{name}'")
        return sorted(
            (_describe(version, champion) for version in found), key=lambda one: -one.number
        )


def promote(number: int, *, name: str = REGISTERED_NAME, tracking_uri: str | None = None) -> None:
    """Make a version the champion, and remember whom it follows; raises ModelError."""
    with _registry(tracking_uri) as client:
        _crown(client, _find_version(client, f"{_SCHEME}{name}/{number}"))


def roll_back(*, name: str = REGISTERED_NAME, tracking_uri: str | None = None) -> int:
    """Make the champion's predecessor champion again and return its number; raises ModelError."""
    with _registry(tracking_uri) as client:
        champion = _champion(client, name)
        before = champion.tags.get(_BEFORE_TAG) if champion else None
        if before is None:
            raise ModelError(
                f"The model {name} has no earlier champion.",
                remedy="Promote a version by its number.",
            )
        client.set_registered_model_alias(name, CHAMPION, before)
        return int(before)


def promote_if_better(
    number: int,
    *,
    margin: float,
    measure: Callable[[ModelPackage], Mapping[str, float]],
    name: str = REGISTERED_NAME,
    tracking_uri: str | None = None,
) -> bool:
    """Make a version champion if its CIDEr beats the champion's by the margin, on one dev set.

    ``measure`` evaluates the champion's package on the version's dev set; it is called only if
    the champion's own figures are of another one. A first version needs to beat nobody.
    """
    with _registry(tracking_uri) as client:
        challenger = _find_version(client, f"{_SCHEME}{name}/{number}")
        champion = _champion(client, name)
        if champion is not None:
            figures = _figures(champion)
            if champion.tags.get(_DEV_SET_TAG) != challenger.tags.get(_DEV_SET_TAG):
                figures = dict(measure(open_package(_download(client, champion))))
            if _figures(challenger)[GATE_FIGURE] < figures[GATE_FIGURE] + margin:
                return False
        _crown(client, challenger)
        return True


def register(
    package: ModelPackage,
    *,
    figures: Mapping[str, float],
    dev_set: str,
    run_id: str | None = None,
    name: str = REGISTERED_NAME,
    tracking_uri: str | None = None,
) -> int:
    """Log a package and register it as a new version; returns its number, raises ModelError.

    ``figures`` are its scores on the dev photographs whose fingerprint is ``dev_set``; ``run_id``
    is the MLflow run that trained it.
    """
    if GATE_FIGURE not in figures:
        raise ValueError(f"the figures of a version need {GATE_FIGURE}")
    from models.mlflow_model import log_package

    with _registry(tracking_uri) as client:
        number = log_package(package, name=name, run_id=run_id)
        tags = {"model_version": package.version, _DEV_SET_TAG: dev_set} | {
            f"{_FIGURE_TAG}{figure}": f"{value:.6f}" for figure, value in figures.items()
        }
        for key, value in tags.items():
            client.set_model_version_tag(name, str(number), key, value)
        card = package.file("MODEL_CARD.md").read_text(encoding="utf-8")
        client.update_model_version(name, str(number), description=card)
        return number


@contextmanager
def _registry(tracking_uri: str | None) -> Iterator[MlflowClient]:
    """A client whose failures are one line; the process's own MLflow settings come back after."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    uri = choose_tracking_uri(tracking_uri)
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield mlflow.MlflowClient(uri, uri)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ModelError(
            f"The model registry {uri} failed: {reason}.",
            remedy="Check --tracking-uri and the model's name, or give a package folder.",
        ) from error
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])


def _find_version(client: MlflowClient, uri: str) -> ModelVersion:
    if by_alias := _ALIAS.fullmatch(uri):
        return client.get_model_version_by_alias(by_alias["name"], by_alias["alias"])
    if by_number := _NUMBER.fullmatch(uri):
        return client.get_model_version(by_number["name"], by_number["number"])
    raise ModelError(
        f"{uri} names no version of a model.", remedy="Write models:/NAME@ALIAS or models:/NAME/3."
    )


def _download(client: MlflowClient, version: ModelVersion) -> Path:
    import mlflow

    folder = tempfile.mkdtemp(prefix="captionlake-model-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source = client.get_model_version_download_uri(version.name, version.version)
    found = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=folder))
    if not (found / "package").is_dir():
        raise ModelError(
            f"Version {version.version} of {version.name} holds no model package.",
            remedy="Choose a version that train_captioner registered.",
        )
    return found / "package"


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    """Unlike a lookup by alias, tells a model without a champion from a registry that fails."""
    number = client.get_registered_model(name).aliases.get(CHAMPION)
    return None if number is None else client.get_model_version(name, number)


def _crown(client: MlflowClient, version: ModelVersion) -> None:
    before = _champion(client, version.name)
    if before is not None and before.version != version.version:
        tag = str(before.version)
        client.set_model_version_tag(version.name, version.version, _BEFORE_TAG, tag)
    client.set_registered_model_alias(version.name, CHAMPION, version.version)


def _describe(version: ModelVersion, champion: ModelVersion | None) -> RegisteredVersion:
    return RegisteredVersion(
        number=int(version.version),
        model_version=version.tags.get("model_version", ""),
        dev_set=version.tags.get(_DEV_SET_TAG, ""),
        figures=_figures(version),
        is_champion=champion is not None and champion.version == version.version,
    )


def _figures(version: ModelVersion) -> dict[str, float]:
    tags: dict[str, Any] = version.tags
    return {
        key.removeprefix(_FIGURE_TAG): float(value)
        for key, value in tags.items()
        if key.startswith(_FIGURE_TAG)
    }
