"""Daft as its documentation recommends: a stateful class with a batch method, to Parquet.

Layouts: `process` gives every instance a process of its own, `thread` keeps them in this one.
"""

from __future__ import annotations

from typing import Any

import daft
import numpy as np
from daft import DataType

from benchmarks.shared.contest import Contest, Model, parse_contest

PROCESS = "process"


class Captioner:
    """Loads the model once per instance."""

    def __init__(self, contest: Contest) -> None:
        """Load the model."""
        self._model: Model = contest.load_model()

    def caption(self, data: Any) -> Any:
        """Caption a series of encoded images."""
        pixels = np.stack([self._model.decode(one) for one in data.to_pylist()])
        captions, scores = self._model.caption(pixels)
        return [
            {"caption": caption, "score": score}
            for caption, score in zip(captions, scores, strict=True)
        ]


def main() -> None:
    """Caption everything."""
    contest = parse_contest()
    daft.set_runner_native()
    answer = DataType.struct({"caption": DataType.string(), "score": DataType.float64()})
    Captioner.caption = daft.method.batch(  # type: ignore[method-assign]
        Captioner.caption, return_dtype=answer, batch_size=contest.batch_images
    )
    stateful = daft.cls(
        Captioner, max_concurrency=contest.workers, use_process=contest.layout == PROCESS
    )
    with contest.clock():
        captioner = stateful(contest)
        files = daft.from_glob_path(f"{contest.photographs}/*.jpg")
        said = captioner.caption(daft.col("path").download())
        files.select("path", said.alias("said")).write_parquet(str(contest.scratch / "captions"))


if __name__ == "__main__":
    main()
