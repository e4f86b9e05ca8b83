"""Photographs and captions on HDFS become shards on the driver's disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hdfs import InsecureClient
from pyspark.sql import SparkSession

from conf.training import PairSettings
from jobs import training_pairs
from jobs.training_folders import SKIPPED
from jobs.training_shards import make_shards
from models.images import preprocess_image
from storage.listing import list_files
from tests.captioning import photograph
from tests.services.hdfs_daemons import Hdfs

SIDE = 32
FILES = 9


@pytest.fixture
def pairs(hdfs: Hdfs) -> PairSettings:
    """Nine photographs in folders, two captions each, two of them for choosing."""
    client = InsecureClient(hdfs.web_uri, user="root")
    lines = []
    for seed in range(FILES):
        client.write(f"/training/images/{seed % 3}/{seed}.png", photograph(seed), overwrite=True)
        lines += [f"{seed}.png\tphotograph {seed}", f"{seed}.png\tagain {seed}"]
    client.write("/training/captions.tsv", "\n".join(lines).encode(), overwrite=True)
    client.write("/training/dev.txt", b"3.png\n8.png\n", overwrite=True)
    return PairSettings(
        images=f"{hdfs.uri}/training/images",
        captions=f"{hdfs.uri}/training/captions.tsv",
        dev_split=f"{hdfs.uri}/training/dev.txt",
        partition_files=2,
    )


def test_each_photograph_on_hdfs_keeps_its_pixels_and_captions(
    spark: SparkSession, pairs: PairSettings, tmp_path: Path
) -> None:
    data = make_shards(spark, pairs, tmp_path / "work", image_size=SIDE, env_local=False)
    assert sorted(data.dev.names) == ["3.png", "8.png"]
    assert len(data.train) == FILES - 2
    for split in (data.train, data.dev):
        for row, name in enumerate(split.names):
            seed = int(name.removesuffix(".png"))
            assert split.captions[row] == [f"photograph {seed}", f"again {seed}"]
            pixels = preprocess_image(photograph(seed), size=SIDE).pixels
            assert (split.pixels.take([row])[0] == pixels).all()


def test_what_the_reader_leaves_out_on_hdfs_is_skipped_with_its_true_reason(
    spark: SparkSession,
    pairs: PairSettings,
    hdfs: Hdfs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = InsecureClient(hdfs.web_uri, user="root")
    client.write("/training/images/0/0.png", b"", overwrite=True)
    client.write("/training/images/1/1.png", b"x" * 100_000, overwrite=True)

    def list_before_one_goes(*arguments: Any) -> pa.Table:
        listing = list_files(*arguments)
        client.delete("/training/images/2/2.png")
        return listing

    monkeypatch.setattr(training_pairs, "list_files", list_before_one_goes)
    some = pairs.model_copy(update={"max_file_bytes": 99_999, "max_skipped_share": 0.5})
    data = make_shards(spark, some, tmp_path / "work", image_size=SIDE, env_local=False)
    assert data.skipped == {"empty": 1, "too_large": 1, "vanished": 1}
    listed = (tmp_path / "work" / SKIPPED).read_text(encoding="utf-8")
    assert "1.png\ttoo_large\t100000 bytes, limit 99999" in listed
    assert len(data.train) == FILES - 5
