"""Photographs and captions become shards, and what can't be used is accounted for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.errors import InputError, UsageError
from conf.training import PairSettings
from jobs import training_shards
from jobs.training_folders import READY, SKIPPED
from jobs.training_pairs import read_pairs, with_content
from jobs.training_shards import TrainingData, make_shards, open_shards, stream_rows
from storage.excluded import IMAGE, PATH, Exclusions, digest_of
from storage.exclusions import is_excluded
from storage.hadoop import java_class
from tests.services.submitting import wait_until

SIDE = 16
PAIR_COLUMNS = "path string, content binary, captions array<string>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six photographs of two captions each, in images/ and captions.tsv."""
    (tmp_path / "images" / "nested").mkdir(parents=True)
    lines = []
    for number in range(6):
        place = "nested" if number % 2 else "."
        save_image(tmp_path / "images" / place / f"{number}.png", level=40 * number)
        lines += [f"{number}.png\tLevel {number} , first .", f"{number}.png\tLevel {number} again"]
    (tmp_path / "captions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def save_image(path: Path, *, level: int) -> None:
    cv2.imwrite(str(path), np.full((20, 30, 3), level, np.uint8))


def settings_of(folder: Path, **changes: object) -> PairSettings:
    (folder / "dev.txt").write_text("4.png\n5.png\n", encoding="utf-8")
    fields = {
        "images": str(folder / "images"),
        "captions": str(folder / "captions.tsv"),
        "dev_split": str(folder / "dev.txt"),
        "max_skipped_share": 0.9,
    }
    return PairSettings(**{**fields, **changes})


def shards_of(spark: SparkSession, folder: Path, settings: PairSettings) -> TrainingData:
    return make_shards(spark, settings, folder / "work", image_size=SIDE, env_local=True)


def test_photographs_meet_their_captions_in_the_order_written(
    spark: SparkSession, folder: Path
) -> None:
    data = shards_of(spark, folder, settings_of(folder))
    found = dict(zip(data.train.names, data.train.captions, strict=True))
    assert found["3.png"] == ["Level 3 , first .", "Level 3 again"]
    assert sorted(data.train.names) == ["0.png", "1.png", "2.png", "3.png"]
    assert sorted(data.dev.names) == ["4.png", "5.png"]


def test_pixels_lie_beside_the_names_they_belong_to(spark: SparkSession, folder: Path) -> None:
    data = shards_of(spark, folder, settings_of(folder))
    for row, name in enumerate(data.train.names):
        assert data.train.pixels.take([row])[0].mean() == 40 * int(name[0])


def test_what_cannot_be_used_is_listed_with_its_reason(spark: SparkSession, folder: Path) -> None:
    (folder / "images" / "0.png").write_bytes(b"")
    (folder / "images" / "1.txt").write_text("not a photograph", encoding="utf-8")
    save_image(folder / "images" / "2.png.jpg", level=9)
    with (folder / "captions.tsv").open("a", encoding="utf-8") as captions:
        captions.write("1.txt\tWords .\nlost.png\tA lost dog .\nno tab\n")
    data = shards_of(spark, folder, settings_of(folder))
    assert data.skipped == {
        "empty": 1,
        "not_an_image": 1,
        "image_without_caption": 1,
        "caption_without_image": 1,
        "malformed_line": 1,
    }
    assert "lost.png\tcaption_without_image" in (folder / "work" / SKIPPED).read_text("utf-8")


def test_too_much_unusable_data_is_refused(spark: SparkSession, folder: Path) -> None:
    for number in (0, 2, 4):
        (folder / "images" / f"{number}.png").write_bytes(b"broken")
    with pytest.raises(InputError, match="3 of 6 are unusable"):
        shards_of(spark, folder, settings_of(folder, max_skipped_share=0.1))


def test_captions_that_name_no_photograph_are_refused(spark: SparkSession, folder: Path) -> None:
    (folder / "captions.tsv").write_text("other.png\tA dog .\n", encoding="utf-8")
    with pytest.raises(InputError, match="no photograph with a caption"):
        shards_of(spark, folder, settings_of(folder))


def test_an_empty_caption_file_is_refused(spark: SparkSession, folder: Path) -> None:
    (folder / "captions.tsv").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="is empty"):
        shards_of(spark, folder, settings_of(folder))


def test_without_a_split_the_photographs_bytes_decide(spark: SparkSession, folder: Path) -> None:
    settings = settings_of(folder, dev_split=None, dev_share=0.5)
    one = shards_of(spark, folder, settings)
    (folder / "images" / "0.png").rename(folder / "images" / "nested" / "0.png")
    again = shards_of(spark, folder, settings)
    assert len(one.train) + len(one.dev) == 6
    assert sorted(one.dev.names) == sorted(again.dev.names)


def test_a_train_split_alone_leaves_dev_to_the_photographs_bytes(
    spark: SparkSession, folder: Path
) -> None:
    whole = shards_of(spark, folder, settings_of(folder, dev_split=None, dev_share=0.5))
    names = sorted([*whole.train.names[:2], *whole.dev.names[:1]])
    (folder / "train.txt").write_text("\n".join(names), encoding="utf-8")
    split = str(folder / "train.txt")
    part = shards_of(
        spark, folder, settings_of(folder, train_split=split, dev_split=None, dev_share=0.5)
    )
    assert sorted([*part.train.names, *part.dev.names]) == names
    assert set(part.dev.names) == set(whole.dev.names) & set(names)


def table_of(spark: SparkSession, folder: Path, *, prefix: str = "") -> DataFrame:
    """The six photographs as rows of a table of pairs, their paths begun with the prefix."""
    rows = [
        (prefix + path.name, path.read_bytes(), [f"Level {n} , first .", f"Level {n} again"])
        for n in range(6)
        for path in (folder / "images").rglob(f"{n}.png")
    ]
    return spark.createDataFrame(rows, PAIR_COLUMNS)


def table_settings(folder: Path, frame: DataFrame, **changes: object) -> PairSettings:
    frame.coalesce(1).write.format("parquet").save(str(folder / "pairs"))
    pairs = {"images": None, "captions": None, "pairs": str(folder / "pairs")}
    return settings_of(folder, **pairs, **changes)


def test_a_table_of_pairs_gives_the_same_shards(spark: SparkSession, folder: Path) -> None:
    from_files = shards_of(spark, folder, settings_of(folder))
    table_of(spark, folder).write.format("delta").save(str(folder / "pairs"))
    table = settings_of(folder, images=None, captions=None, pairs=str(folder / "pairs"))
    from_table = make_shards(spark, table, folder / "other", image_size=SIDE, env_local=True)
    assert from_table.train.fingerprint == from_files.train.fingerprint
    assert from_table.dev.fingerprint == from_files.dev.fingerprint


def test_no_partition_of_a_table_holds_more_photographs_than_allowed(
    spark: SparkSession, folder: Path
) -> None:
    captions = F.array(F.lit("A wall ."))
    rows = spark.range(100).select(
        F.col("id").cast("string").alias("path"),
        F.lit(b"x").alias("content"),
        captions.alias("captions"),
    )
    settings = table_settings(folder, rows, partition_files=8)
    pairs = read_pairs(spark, settings, env_local=True).usable
    sizes = [len(part) for part in with_content(spark, pairs, settings).rdd.glom().collect()]
    assert sum(sizes) == 100
    assert max(sizes) <= 8


def test_a_table_is_unpacked_a_few_photographs_at_a_time(spark: SparkSession, folder: Path) -> None:
    """Spark's own 4096 photographs at once end a driver of 2 GB for want of memory."""
    one = "'a.png' AS path, binary('x') AS content, array('A wall .') AS captions"
    settings = table_settings(folder, spark.sql(f"SELECT {one}"))
    reading = read_pairs(spark, settings, env_local=True).usable.sparkSession
    assert reading.conf.get("spark.sql.parquet.columnarReaderBatchSize") == "64"


def test_a_row_twice_without_content_or_too_large_is_skipped_with_its_reason(
    spark: SparkSession, folder: Path
) -> None:
    odd = [
        ("1.png", b"other", ["Another one ."]),
        ("empty", None, ["Nothing ."]),
        ("large", b"x" * 9999, ["Large ."]),
        ("silent", b"x", [" ", None]),
    ]
    frame = table_of(spark, folder).union(spark.createDataFrame(odd, PAIR_COLUMNS))
    data = shards_of(spark, folder, table_settings(folder, frame, max_file_bytes=9998))
    assert data.skipped == {
        "name_occurs_twice": 1,
        "empty": 1,
        "too_large": 1,
        "image_without_caption": 1,
    }
    assert "9999 bytes, limit 9998" in (folder / "work" / SKIPPED).read_text("utf-8")
    assert sorted(data.train.names) == ["0.png", "2.png", "3.png"]


def test_a_column_of_another_type_is_refused_by_name(spark: SparkSession, folder: Path) -> None:
    frame = table_of(spark, folder).withColumn("captions", F.col("captions")[0])
    with pytest.raises(InputError, match="captions is of type string, not array<string>"):
        shards_of(spark, folder, table_settings(folder, frame))


@pytest.mark.parametrize("scheme", ["", "file:", "file://"])
def test_rows_of_withdrawn_paths_are_left_out_however_they_are_written(
    spark: SparkSession, folder: Path, scheme: str
) -> None:
    frame = table_of(spark, folder, prefix=f"{scheme}/photographs/")
    exclusions = Exclusions(frozenset([digest_of(PATH, "file:/photographs/0.png")]), frozenset())
    contents = read_pairs(spark, table_settings(folder, frame), env_local=True).usable
    left = contents.where(~is_excluded(exclusions, image_id=F.sha2("content", 256)))
    assert left.count() == 5


def test_finished_shards_are_found_again(spark: SparkSession, folder: Path) -> None:
    data = shards_of(spark, folder, settings_of(folder))
    found = open_shards(folder / "work", settings_of(folder), image_size=SIDE)
    assert found is not None
    assert found.train.fingerprint == data.train.fingerprint


def test_shards_of_other_data_are_refused(spark: SparkSession, folder: Path) -> None:
    shards_of(spark, folder, settings_of(folder))
    other = settings_of(folder, dev_split=None, limit=2, partition_files=7)
    with pytest.raises(UsageError, match="another --dev-split, --limit"):
        open_shards(folder / "work", other, image_size=SIDE)


def test_shards_of_another_image_size_are_refused(spark: SparkSession, folder: Path) -> None:
    shards_of(spark, folder, settings_of(folder))
    with pytest.raises(UsageError, match=f"{SIDE} pixels a side, and {SIDE + 1} .* --encoder"):
        open_shards(folder / "work", settings_of(folder), image_size=SIDE + 1)


def test_withdrawn_photographs_are_left_out_and_older_shards_are_not_used(
    spark: SparkSession, folder: Path
) -> None:
    shards_of(spark, folder, settings_of(folder))
    (folder / "work" / "training" / "features").mkdir(parents=True)
    by_path = digest_of(PATH, f"file:{folder}/images/0.png")
    content = (folder / "images" / "nested" / "1.png").read_bytes()
    by_bytes = digest_of(IMAGE, hashlib.sha256(content).hexdigest())
    exclusions = Exclusions(frozenset([by_path]), frozenset([by_bytes]))
    assert (
        open_shards(folder / "work", settings_of(folder), image_size=SIDE, exclusions=exclusions)
        is None
    )
    data = make_shards(
        spark,
        settings_of(folder),
        folder / "work",
        image_size=SIDE,
        env_local=True,
        exclusions=exclusions,
    )
    assert sorted([*data.train.names, *data.dev.names]) == ["2.png", "3.png", "4.png", "5.png"]
    assert not (folder / "work" / "training").exists()
    for file in filter(Path.is_file, (folder / "work").rglob("*")):
        assert b"Level 0" not in file.read_bytes()
        assert b"1.png" not in file.read_bytes()
    assert (
        open_shards(folder / "work", settings_of(folder), image_size=SIDE, exclusions=exclusions)
        is not None
    )


def test_a_remaking_that_is_killed_leaves_no_shards_that_pass_for_finished(
    spark: SparkSession, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards_of(spark, folder, settings_of(folder))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_shards, "_write_split", killed)
        with pytest.raises(KeyboardInterrupt):
            make_shards(
                spark, settings_of(folder), folder / "work", image_size=SIDE * 2, env_local=True
            )
    assert not (folder / "work" / READY).exists()
    assert open_shards(folder / "work", settings_of(folder), image_size=SIDE) is None
    assert len(shards_of(spark, folder, settings_of(folder)).train) == 4


def test_shards_with_a_file_cut_short_are_made_anew(spark: SparkSession, folder: Path) -> None:
    shards_of(spark, folder, settings_of(folder))
    for file in (READY, "train/index.json", "dev/index.json"):
        path = folder / "work" / file
        whole = path.read_text(encoding="utf-8")
        path.write_text(whole[:20], encoding="utf-8")
        assert open_shards(folder / "work", settings_of(folder), image_size=SIDE) is None
        path.write_text(whole, encoding="utf-8")
    assert open_shards(folder / "work", settings_of(folder), image_size=SIDE) is not None


def test_images_without_captions_option_is_wrong_use(spark: SparkSession, folder: Path) -> None:
    with pytest.raises(UsageError, match="--images and --captions"):
        shards_of(spark, folder, settings_of(folder, captions=None))


def test_what_was_streamed_is_not_kept_in_the_driver(spark: SparkSession) -> None:
    mebibyte = 2**20
    big = F.repeat(F.lit("x"), mebibyte).alias("big")
    streamed = stream_rows(spark.range(0, 240, 1, numPartitions=80).select("id", big))
    assert next(streamed).id == 0
    before = used_heap(spark)
    assert [row.id for row in streamed] == list(range(1, 240))
    # Spark lets go of a task's result a moment after it was fetched.
    wait_until(lambda: used_heap(spark) - before < 80 * mebibyte, seconds=30.0)


def used_heap(spark: SparkSession) -> int:
    """Bytes that the JVM can't free."""
    system = java_class(spark, "java.lang.System")
    system.gc()
    runtime = java_class(spark, "java.lang.Runtime").getRuntime()
    return int(runtime.totalMemory() - runtime.freeMemory())
