"""What this process knows of a table's versions, so that it needn't look into them again."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Batches = frozenset[str] | None
Hashes = npt.NDArray[np.int64]


class SeenCommits:
    """Remembers the paths of this process' own commits, as 8-byte hashes, and others' batches."""

    def __init__(self) -> None:
        self._own_hashes: dict[int, Hashes] = {}
        self._others_batches: dict[int, Batches] = {}

    def record_own(self, version: int, paths: pa.ChunkedArray) -> None:
        """Remember that this process committed rows of these paths as this version."""
        self._own_hashes[version] = np.sort(hash_all(paths))

    def may_add(
        self,
        version: int,
        *,
        hashes: Hashes,
        batches: Collection[str],
        batches_added: Callable[[int], Batches],
    ) -> bool:
        """Whether a version may have added rows of these paths, all of these batches.

        Args:
            version: of the table.
            hashes: of the paths of the rows in question, by `hash_all`.
            batches: of the same rows.
            batches_added: reads a version's batches from the log; None stands for any.
        """
        if (own := self._own_hashes.get(version)) is not None:
            places = np.searchsorted(own, hashes).clip(max=len(own) - 1)
            return len(own) > 0 and bool((own[places] == hashes).any())
        if version not in self._others_batches:
            self._others_batches[version] = batches_added(version)
        added = self._others_batches[version]
        return added is None or not added.isdisjoint(batches)


def hash_all(paths: pa.ChunkedArray) -> Hashes:
    """Return a hash of each path, int64 [P], the same within this process only."""
    return np.fromiter(map(hash, paths.to_pylist()), np.int64, len(paths))
