"""Ray Data as its documentation recommends: a model held by actors, lazily streamed to Parquet.

Layouts: `tasks` preprocesses in tasks before the actors, as the guide to batch inference does;
`fused` does it in the actors, which saves moving the pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import ray

from benchmarks.shared.contest import CORES, Contest, Model, decode, parse_contest
from models.package import open_package

FUSED = "fused"
Batch = dict[str, Any]


class Captioner:
    """The actor: loads the model once."""

    def __init__(self, contest: Contest) -> None:
        """Load the model."""
        self._model: Model = contest.load_model()

    def __call__(self, batch: Batch) -> Batch:
        """Caption a batch of `bytes` or of `pixels`."""
        if "pixels" in batch:
            pixels = np.ascontiguousarray(batch["pixels"])
        else:
            pixels = np.stack([self._model.decode(data) for data in batch["bytes"]])
        captions, scores = self._model.caption(pixels)
        return {"path": batch["path"], "caption": captions, "score": scores}


def preprocess(batch: Batch, *, size: int) -> Batch:
    """Decode a batch in a task."""
    return {
        "path": batch["path"],
        "pixels": np.stack([decode(data, size=size) for data in batch["bytes"]]),
    }


def main() -> None:
    """Caption everything."""
    contest = parse_contest()
    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    with contest.clock():
        files = ray.data.read_binary_files(str(contest.photographs), include_paths=True)
        if contest.layout != FUSED:
            size = open_package(contest.model).config.image_size
            files = files.map_batches(
                preprocess, fn_kwargs={"size": size}, batch_size=contest.batch_images
            )
        files.map_batches(
            Captioner,
            fn_constructor_args=(contest,),
            batch_size=contest.batch_images,
            compute=ray.data.ActorPoolStrategy(size=contest.workers),
            num_cpus=0.5,  # leaves room for the tasks that read, which need a core each
        ).write_parquet(str(contest.scratch / "captions"))
    ray.shutdown()


if __name__ == "__main__":
    main()
