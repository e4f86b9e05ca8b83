"""Models in an MLflow registry: find, register, compare, promote, roll back.

Packages travel as plain files and are verified when opened; MLflow's loaders, which would run
code from the store, are never called. MLflow is imported only when a registry is meant.
"""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.errors import ModelError
from models.gate import Measurement, Verdict
from models.package import ModelPackage, open_package
from models.tracking import open_registry, reason_of, store_failures

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

REGISTERED_NAME = "captioner"
CHAMPION = "champion"
GATE_FIGURE = "cider"

_SCHEME = "models:/"
_ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)")
_NUMBER = re.compile(r"models:/(?P<name>[^/@]+)/(?P<number>\d+)")
# Tags of a version besides those of its measurement: its figures, whom it followed as champion.
_FIGURE_TAG, _BEFORE_TAG = "dev.", "champion_before"


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model, with its figures and how they were measured."""

    number: int
    model_version: str
    measurement: Measurement
    figures: Mapping[str, float]
    is_champion: bool


def resolve_model(uri: str, *, tracking_uri: str | None = None) -> Path:
    """Local folder of a package: a path as it is, or models:/NAME@ALIAS or models:/NAME/3 fetched.

    A fetched package is gone when the process ends. Raises ModelError.
    """
    if not uri.startswith(_SCHEME):
        return Path(uri)
    with open_registry(tracking_uri) as client:
        return _download(client, _find_version(client, uri))


def list_versions(
    *, name: str = REGISTERED_NAME, tracking_uri: str | None = None
) -> list[RegisteredVersion]:
    """Every version, the newest first; raises ModelError."""
    with open_registry(tracking_uri) as client:
        champion = _champion(client, name)
        found = client.search_model_versions(f"name = '{name}'")
        return sorted(
            (_describe(version, champion) for version in found), key=lambda one: -one.number
        )


def promote(number: int, *, name: str = REGISTERED_NAME, tracking_uri: str | None = None) -> None:
    """Make a version the champion, and remember whom it follows; raises ModelError."""
    with open_registry(tracking_uri) as client:
        _crown(client, _find_version(client, f"{_SCHEME}{name}/{number}"))


def roll_back(*, name: str = REGISTERED_NAME, tracking_uri: str | None = None) -> int:
    """Make the champion's predecessor champion again and return its number; raises ModelError."""
    with open_registry(tracking_uri) as client:
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
) -> Verdict:
    """Make a version champion if its CIDEr beats the champion's by the margin; raises ModelError.

    ``measure`` evaluates the champion's package as the version was measured; it is called only if
    the champion's own figures were measured otherwise. A first version needs to beat nobody.
    """
    with open_registry(tracking_uri) as client:
        challenger = _find_version(client, f"{_SCHEME}{name}/{number}")
        champion = _champion(client, name)
        if champion is not None:
            try:
                figures = _comparable_figures(client, champion, challenger, measure)
            except ModelError as error:
                return Verdict(is_champion=False, obstacle=str(error))
            gain = _figures(challenger)[GATE_FIGURE] - figures[GATE_FIGURE]
            if gain <= 0 or gain < margin:
                return Verdict(is_champion=False)
        _crown(client, challenger)
        return Verdict(is_champion=True)


def register(
    package: ModelPackage,
    *,
    figures: Mapping[str, float],
    measurement: Measurement,
    run_id: str | None = None,
    name: str = REGISTERED_NAME,
    tracking_uri: str | None = None,
) -> int:
    """Log a package and register it as a new version; returns its number, raises ModelError.

    ``measurement`` says how its ``figures`` came about; ``run_id`` is the MLflow run that trained
    it.
    """
    if GATE_FIGURE not in figures:
        raise ValueError(f"the figures of a version need {GATE_FIGURE}")
    from models.mlflow_model import log_package

    with open_registry(tracking_uri) as client:
        number = log_package(package, name=name, run_id=run_id)
        tags = {"model_version": package.version} | measurement.tags()
        tags |= {f"{_FIGURE_TAG}{figure}": f"{value:.6f}" for figure, value in figures.items()}
        for key, value in tags.items():
            client.set_model_version_tag(name, str(number), key, value)
        card = package.file("MODEL_CARD.md").read_text(encoding="utf-8")
        client.update_model_version(name, str(number), description=card)
        return number


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


def _comparable_figures(
    client: MlflowClient,
    champion: ModelVersion,
    challenger: ModelVersion,
    measure: Callable[[ModelPackage], Mapping[str, float]],
) -> Mapping[str, float]:
    """The champion's figures as the challenger's were measured; raises ModelError.

    An older champion may need another OpenCV than is here, or its files may be gone from the store.
    """
    measured, asked = (Measurement.from_tags(one.tags) for one in (champion, challenger))
    if measured.is_comparable(asked):
        return _figures(champion)
    try:
        folder = _download(client, champion)
    except store_failures() as error:
        raise ModelError(f"The champion can't be fetched: {reason_of(error)}.") from error
    return measure(open_package(folder))


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
        measurement=Measurement.from_tags(version.tags),
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
