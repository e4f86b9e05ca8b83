"""What the splits and the limit choose, and which unusable data counts against them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from conf.errors import InputError
from conf.training import PairSettings
from jobs.training_folders import SKIPPED
from jobs.training_shards import TrainingData, make_shards
from tests.spark.test_training_pairs import SIDE, save_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve photographs, ten of them with a caption: 10.png and 11.png have none."""
    (tmp_path / "images").mkdir()
    for number in range(12):
        save_image(tmp_path / "images" / f"{number}.png", level=20 * number)
    lines = [f"{number}.png\tLevel {number} .\n" for number in range(10)]
    (tmp_path / "captions.tsv").write_text("".join(lines), encoding="utf-8")
    return tmp_path


def shards_of(spark: SparkSession, folder: Path, **changes: object) -> TrainingData:
    fields = {"images": str(folder / "images"), "captions": str(folder / "captions.tsv")}
    settings = PairSettings.model_validate({**fields, **changes})
    return make_shards(spark, settings, folder / "work", image_size=SIDE, env_local=True)


def names(folder: Path, split: str, *numbers: object) -> str:
    path = folder / f"{split}.txt"
    path.write_text("".join(f"{number}.png\n" for number in numbers), encoding="utf-8")
    return str(path)


def test_what_no_split_names_does_not_count_as_skipped(spark: SparkSession, folder: Path) -> None:
    train, dev = names(folder, "train", 0, 1), names(folder, "dev", 2)
    data = shards_of(spark, folder, train_split=train, dev_split=dev, max_skipped_share=0.0)
    assert data.skipped == {}
    assert sorted(data.train.names) == ["0.png", "1.png"]
    assert data.dev.names == ["2.png"]


def test_what_a_split_names_and_has_no_caption_is_skipped(
    spark: SparkSession, folder: Path
) -> None:
    train, dev = names(folder, "train", 0, 1, 10), names(folder, "dev", 2)
    with pytest.raises(InputError, match="1 of 4 are unusable"):
        shards_of(spark, folder, train_split=train, dev_split=dev, max_skipped_share=0.2)
    listed = (folder / "work" / SKIPPED).read_text(encoding="utf-8")
    assert "10.png\timage_without_caption" in listed
    assert "11.png" not in listed


def test_without_a_train_split_everything_counts(spark: SparkSession, folder: Path) -> None:
    data = shards_of(spark, folder, dev_split=names(folder, "dev", 2), max_skipped_share=0.2)
    assert data.skipped == {"image_without_caption": 2}


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_name_that_only_a_split_knows_is_skipped(
    spark: SparkSession, folder: Path, split: str
) -> None:
    splits = {"train": [0, 1], "dev": [2]}
    splits[split].append(99)
    data = shards_of(
        spark,
        folder,
        train_split=names(folder, "train", *splits["train"]),
        dev_split=names(folder, "dev", *splits["dev"]),
        max_skipped_share=0.25,
    )
    assert data.skipped == {"name_only_in_split": 1}
    assert "99.png\tname_only_in_split" in (folder / "work" / SKIPPED).read_text(encoding="utf-8")


def test_mistyped_dev_names_without_a_train_split_are_refused(
    spark: SparkSession, folder: Path
) -> None:
    dev = names(folder, "dev", 2, "x3", "x4", "x5")
    with pytest.raises(InputError, match=r"5 of 15 are unusable .*3 name_only_in_split"):
        shards_of(spark, folder, dev_split=dev, max_skipped_share=0.2)


def test_a_limit_does_not_raise_the_share_of_what_is_skipped(
    spark: SparkSession, folder: Path
) -> None:
    data = shards_of(
        spark, folder, dev_split=names(folder, "dev", 8, 9), limit=1, max_skipped_share=0.2
    )
    assert (len(data.train), len(data.dev)) == (1, 1)
    assert data.skipped == {"image_without_caption": 2}


def test_a_limited_sample_that_is_broken_is_refused(spark: SparkSession, folder: Path) -> None:
    (folder / "images" / "0.png").write_bytes(b"broken")
    dev = names(folder, "dev", 8, 9)
    with pytest.raises(InputError, match=r"About 7 of 12 are unusable .*1 not_an_image"):
        shards_of(spark, folder, dev_split=dev, limit=1, max_skipped_share=0.5)


def test_a_name_in_both_splits_is_for_choosing_alone(spark: SparkSession, folder: Path) -> None:
    train, dev = names(folder, "train", 0, 1, 2), names(folder, "dev", 2)
    data = shards_of(spark, folder, train_split=train, dev_split=dev)
    assert sorted(data.train.names) == ["0.png", "1.png"]
    assert data.dev.names == ["2.png"]
