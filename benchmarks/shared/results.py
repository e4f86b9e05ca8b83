"""Figures of finished rounds, one JSON object per line, so that a run can be taken up again."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Setting:
    """How a contestant is set up.

    Attributes:
        workers: processes, actors or threads that hold a model.
        batch_images: images handed to the model at once.
        layout: what else its sweep varies.
    """

    workers: int
    batch_images: int
    layout: str = ""

    def __str__(self) -> str:
        named = f"{self.layout}, " if self.layout else ""
        return f"{named}{self.workers} x batches of {self.batch_images}"


@dataclass(frozen=True)
class Round:
    """One measured round.

    Attributes:
        model, contestant, photographs: what ran on what (the folder's name tells count and seed).
        repeat: number of the repeat, or of the sweep's setting where `is_sweep`.
        setting: None where the contestant has none to choose.
        images: files, and inferences: both are the same, or the round fails.
        seconds: from the ready session to the finished table.
        total_seconds: from the command to its end.
        first_commit_seconds: from the command to the first committed captions, if known.
        stage_seconds: the pipeline's own account.
    """

    model: str
    contestant: str
    photographs: str
    repeat: int
    is_sweep: bool
    setting: Setting | None
    images: int
    seconds: float
    total_seconds: float
    first_commit_seconds: float | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Speed without start-up."""
        return self.images / self.seconds

    def key(self) -> tuple[object, ...]:
        """What tells rounds apart."""
        return (self.model, self.contestant, self.photographs, self.repeat, self.is_sweep)


class Results:
    """The file of finished rounds."""

    def __init__(self, file: Path) -> None:
        """Read what is there."""
        self._file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self.rounds = [_from_json(line) for line in lines]

    def add(self, finished: Round) -> None:
        """Write a round at once."""
        self.rounds.append(finished)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(finished)) + "\n")

    def find(self, key: tuple[object, ...]) -> Round | None:
        """Return the round with this key, if it has been measured."""
        return next((one for one in self.rounds if one.key() == key), None)


def _from_json(line: str) -> Round:
    values = json.loads(line)
    setting = values.pop("setting")
    return Round(**values, setting=Setting(**setting) if setting else None)


def describe_machine() -> str:
    """Return processor, cores, memory and system in a line."""
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in information if "model name" in line]
    memory = Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]
    return (
        f"{len(names)} cores ({names[0] if names else platform.machine()}), "
        f"{int(memory) / 2**20:.0f} GiB, {platform.system()} {platform.release()}"
    )


def state_of_the_code() -> str:
    """Return what tells code, packages and machine of other figures from those of now."""
    folders = ("conf", "models", "udfs", "storage", "jobs", "benchmarks", "tools")
    others = (
        "conf/common.toml",
        "conf/local.toml",
        "spark-submit.sh",
        "models/default/manifest.json",
    )
    return state_of(*folders, *others, beside=describe_machine())


def state_of(*places: str, beside: str = "") -> str:
    """Return a digest of the scripts below these folders, of these files and of the packages."""
    state = hashlib.sha256(beside.encode())
    for file in ["constraints.txt", *places]:
        scripts = (
            path for path in (ROOT / file).rglob("*") if path.suffix in (".py", ".sh", ".txt")
        )
        for path in sorted(scripts) or [ROOT / file]:
            state.update(path.read_bytes())
    return state.hexdigest()[:12]


def median(values: Sequence[float]) -> float:
    """Return the middle value, or the mean of the two in the middle."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else sum(ordered[middle - 1 : middle + 1]) / 2
