"""The model package: a folder of plain data, opened only if every byte is what its writer left.

Nothing here imports Keras or OpenVINO, so that a driver can check a package in milliseconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from conf.errors import ModelError
from models.decoding import DecodingParameters
from models.images import preprocessing_fingerprint
from models.tokenizer import Tokenizer

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = "model.weights.h5"
MODEL_CARD = "MODEL_CARD.md"
REQUIRED_FILES = (CONFIG, TOKENIZER, WEIGHTS, MODEL_CARD)

_GET_ANOTHER = "Get the package again, or have train_captioner write it anew."


@dataclass(frozen=True)
class PackageConfig:
    """config.json: the network's shape, how it decodes, what it expects and where it comes from."""

    name: str
    captioner: Mapping[str, Any]
    """The fields of ``models.captioner.CaptionerConfig``."""
    preprocessing_fingerprint: str
    decoding: DecodingParameters = field(default_factory=DecodingParameters)
    lineage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def image_size(self) -> int:
        """S, the side of the square of pixels that the model takes."""
        return int(self.captioner["image_size"])

    @property
    def max_length(self) -> int:
        """The longest token sequence, <start> and <end> included."""
        return int(self.captioner["max_length"])

    def to_json(self) -> str:
        """Text of config.json."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> PackageConfig:
        """Read what ``to_json`` wrote; raises ValueError, TypeError or KeyError otherwise."""
        fields = json.loads(text)
        fields["decoding"] = DecodingParameters(**fields["decoding"])
        config = cls(**fields)
        if config.image_size < 1 or config.max_length < 3:
            raise ValueError("its image_size or max_length is too small")
        return config


@dataclass(frozen=True)
class ModelPackage:
    """A verified package on local disk."""

    directory: Path
    version: str
    """SHA-256 of manifest.json, which holds that of every other file."""
    config: PackageConfig
    tokenizer: Tokenizer
    files: Mapping[str, str]
    """SHA-256 by file name relative to the directory."""

    def decoding(self, *, beam_width: int) -> DecodingParameters:
        """The package's decoding parameters with another beam width."""
        return replace(self.config.decoding, beam_width=beam_width)

    def file(self, name: str) -> Path:
        """Path of a file that the manifest vouches for; raises ModelError if there is none."""
        if name not in self.files:
            raise ModelError(
                f"The model package {self.directory} has no {name}.", remedy=_GET_ANOTHER
            )
        return self.directory / name


def open_package(path: str | Path) -> ModelPackage:
    """Open a package folder after checking all of it; raises ModelError naming what is wrong."""
    directory = Path(path)
    manifest_bytes = _read_manifest(directory)
    files = _parse_manifest(directory, manifest_bytes)
    for name, digest in files.items():
        _check_file(directory, name, digest)
    config = _read_config(directory)
    _check_preprocessing(directory, config)
    return ModelPackage(
        directory=directory,
        version=hashlib.sha256(manifest_bytes).hexdigest(),
        config=config,
        tokenizer=_read_tokenizer(directory, config),
        files=files,
    )


def seal_package(directory: Path) -> None:
    """Write the manifest over every file of a package folder, which makes it complete."""
    files = {
        found.relative_to(directory).as_posix(): _digest(found)
        for found in sorted(directory.rglob("*"))
        if found.is_file() and found.name != MANIFEST
    }
    manifest = {"format_version": FORMAT_VERSION, "files": files}
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    (directory / MANIFEST).write_text(text, encoding="utf-8")


def _read_manifest(directory: Path) -> bytes:
    try:
        return (directory / MANIFEST).read_bytes()
    except OSError as error:
        reason = "no such folder" if not directory.exists() else error.strerror or str(error)
        raise ModelError(
            f"{directory} is not a readable model package ({MANIFEST}: {reason}).",
            remedy="Give the folder that holds its manifest.json, or models:/NAME@ALIAS.",
        ) from error


def _parse_manifest(directory: Path, manifest_bytes: bytes) -> dict[str, str]:
    try:
        manifest = json.loads(manifest_bytes)
        found, files = manifest["format_version"], dict(manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise _refusal(directory, f"{MANIFEST} is not a manifest") from error
    if found != FORMAT_VERSION:
        raise ModelError(
            f"The model package {directory} has format version {found!r}, "
            f"and this software reads {FORMAT_VERSION}.",
            remedy="Use the software's version that wrote it, or train the model anew.",
        )
    for name, digest in files.items():
        if not _is_inside(name) or not isinstance(digest, str):
            raise _refusal(directory, f"{MANIFEST} lists {name!r}, which is no file of a package")
    missing = [name for name in REQUIRED_FILES if name not in files]
    if missing:
        raise _refusal(directory, f"{MANIFEST} doesn't list {', '.join(missing)}")
    return files


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name)
    plain = not parts.is_absolute() and ".." not in parts.parts and "\\" not in name
    return plain and parts.as_posix() == name and name not in ("", ".", MANIFEST)


def _check_file(directory: Path, name: str, digest: str) -> None:
    path = directory / name
    try:
        if not path.resolve().is_relative_to(directory.resolve()):
            raise _refusal(directory, f"{name} leads out of the folder")
        actual = _digest(path)
    except OSError as error:
        raise _refusal(directory, f"{name}: {error.strerror or error}") from error
    if actual != digest:
        raise _refusal(directory, f"{name} differs from its SHA-256 in {MANIFEST}")


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_config(directory: Path) -> PackageConfig:
    try:
        return PackageConfig.from_json((directory / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _refusal(directory, f"{CONFIG} can't be read: {error}") from error


def _read_tokenizer(directory: Path, config: PackageConfig) -> Tokenizer:
    tokenizer = Tokenizer.load(directory / TOKENIZER)
    expected = config.captioner.get("vocabulary_size")
    if tokenizer.vocabulary_size != expected:
        raise _refusal(
            directory,
            f"{TOKENIZER} has {tokenizer.vocabulary_size} tokens and the model {expected}",
        )
    return tokenizer


def _check_preprocessing(directory: Path, config: PackageConfig) -> None:
    here = preprocessing_fingerprint(size=config.image_size)
    if config.preprocessing_fingerprint != here:
        raise ModelError(
            f"The model package {directory} was trained with another image preprocessing "
            f"({config.preprocessing_fingerprint[:12]}, here {here[:12]}).",
            remedy="Use the software and OpenCV version that wrote it, or train the model anew.",
        )


def _refusal(directory: Path, why: str) -> ModelError:
    return ModelError(f"The model package {directory} is refused: {why}.", remedy=_GET_ANOTHER)
