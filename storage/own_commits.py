"""Which versions of a table this process wrote, so that it needn't look into them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class OwnCommits:
    """Remembers, for each version that this process committed, its paths as 8-byte hashes."""

    def __init__(self) -> None:
        self._hashes: dict[int, npt.NDArray[np.int64]] = {}

    def record(self, version: int, paths: pa.ChunkedArray) -> None:
        """Remember that this process committed rows of these paths as this version."""
        self._hashes[version] = _hash_all(paths)

    def holds_others(self, version: int, paths: pa.ChunkedArray) -> bool:
        """Whether the version is one of ours and has none of these paths."""
        own = self._hashes.get(version)
        return own is not None and not np.isin(_hash_all(paths), own, kind="sort").any()


def _hash_all(paths: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return np.fromiter(map(hash, paths.to_pylist()), np.int64, len(paths))
