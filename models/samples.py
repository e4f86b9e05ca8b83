"""The sample photographs that installed packages bring along; real files, no download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from conf.errors import EnvironmentFault

_PHOTOGRAPHS: tuple[tuple[str, str], ...] = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/motorcycle_left.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)


def sample_photographs() -> list[Path]:
    """The photographs' files, always in the same order.

    Raises EnvironmentFault where a package or its file is missing.
    """
    return [_locate(package, name) for package, name in _PHOTOGRAPHS]


def _locate(package: str, name: str) -> Path:
    spec = find_spec(package)  # finds the folder without importing the package
    folders = (spec.submodule_search_locations if spec else None) or []
    for folder in folders:
        path = Path(folder, name)
        if path.is_file():
            return path
    raise EnvironmentFault(
        f"The sample photograph {name} of {package} is missing.",
        remedy="Install the versions of constraints.txt.",
    )
