"""The tables stay small, nobody is disturbed, and a withdrawn photograph is gone for good."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable as IndependentReader
from pyspark.sql import SparkSession

from conf.errors import ClaimedElsewhereError, InputError, LakeError, UsageError
from conf.maintenance import MaintainSettings
from jobs.maintain_tables import maintain, read_requests
from jobs.stopping import Stop
from models.package import ModelPackage
from storage.captions import Stamp, commit_chunk, find_pending
from storage.claims import Claims
from storage.excluded import IMAGE, PATH, Exclusions, digest_of
from storage.exclusions import ExclusionList
from storage.forgetting import Withdrawal, withdraw
from storage.lake import Lake, open_existing_lake
from storage.maintenance import compact, delete_excluded, delete_old_runs, delete_superseded, vacuum
from storage.reports import report_uri, shown_digests, write_report
from storage.runs import RunRecord, write_run
from storage.schemas import CAPTIONS, LISTING, OUTCOMES
from storage.views import create_views
from tests.captioning import captions, fill, photograph, run_job, runs

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ODD_NAME = 'it\'s "new".png'
LONG_AGO = datetime.now(UTC) - timedelta(days=100)


def keep(lake: Lake, **settings: Any) -> None:
    """Maintain as the job does, with what is asked by options."""
    chosen = MaintainSettings(lake=lake.uri, **settings)
    maintain(lake, chosen, read_requests(lake.spark, chosen, env_local=True), Stop())


def forget(lake: Lake, *paths: str, images: tuple[str, ...] = ()) -> Exclusions:
    """Withdraw by qualified paths and image ids, and return the list."""
    withdraw(lake, Withdrawal(frozenset(paths), frozenset(images)), run_id="test")
    return ExclusionList(lake.spark, lake.exclusions_uri).now()


def opened(spark: SparkSession, folder: Path) -> Lake:
    return open_existing_lake(spark, f"file:{folder}")


def add_captions(lake: Lake, *rows: tuple[str, str, datetime], batch: str = "a") -> None:
    """Append rows (path, pipeline version, time) as one file."""
    values = [
        {"path": path, "pipeline_version": version, "captioned_at": at, "batch": batch}
        | {"status": "captioned", "caption": f"{version} of {path}", "image_id": path * 2}
        for path, version, at in rows
    ]
    frame = lake.spark.createDataFrame(
        [[value.get(name) for name in CAPTIONS.names] for value in values], CAPTIONS
    )
    frame.coalesce(1).write.format("delta").mode("append").save(lake.captions_uri)


def add_run(lake: Lake, run_id: str, version: str, ended: datetime, **values: Any) -> None:
    fields = {"batches": ("a",), "state": "succeeded"} | values
    record = RunRecord(run_id, "caption_images", "{}", "1", "m", version, ended, ended, **fields)
    write_run(lake, record)


def latest(lake: Lake) -> set[tuple[str, str]]:
    create_views(lake)
    return {
        (row.path, row.pipeline_version) for row in lake.spark.table("captions_latest").collect()
    }


def traces(folder: Path, words: list[str]) -> dict[str, list[str]]:
    """Which files of a folder hold which words, in their bytes or as Parquet decodes them."""
    found = {}
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            if file.suffix == ".parquet":
                content += repr(pq.ParquetFile(file).read().to_pylist()).encode()
            held = [word for word in words if word.encode() in content]
            if held:
                found[str(file.relative_to(folder))] = held
    return found


def test_small_files_become_one_and_a_compact_table_is_left_alone(lake: Lake) -> None:
    for number in range(4):
        add_captions(lake, (f"file:/in/{number}", "p1", NOON))
    rows = captions(Path(lake.uri.removeprefix("file:")))
    assert compact(lake.spark, lake.captions_uri) == 4
    assert len(lake.captions().inputFiles()) == 1
    assert compact(lake.spark, lake.captions_uri) == 0
    assert captions(Path(lake.uri.removeprefix("file:"))) == rows


def test_it_tells_files_and_bytes_and_leaves_a_row(
    lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        add_captions(lake, (f"file:/in/{number}", "p1", NOON))
    keep(lake, retention_hours=0, unsafe_retention=True)
    told = capsys.readouterr().out
    assert "3 small files compacted" in told
    assert "captions: " in told
    (run,) = runs(Path(lake.uri.removeprefix("file:"))).values()
    assert (run["job"], run["state"], run["batches"]) == ("maintain_tables", "succeeded", [])
    folder = Path(lake.uri.removeprefix("file:")) / "captions"
    assert (
        len(list(folder.rglob("*.parquet"))) - len(list(folder.rglob("*checkpoint*.parquet"))) == 1
    )


def test_a_withdrawn_photograph_leaves_no_trace_and_does_not_come_back(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine, copy = fill(tmp_path / "in" / "a", 4)[1], tmp_path / "in" / "b" / "copy.png"
    fill(tmp_path / "in" / "b", 2, first_seed=50)
    mine.rename(mine.with_name("my-face.png"))
    mine = mine.with_name("my-face.png")
    copy.write_bytes(mine.read_bytes())
    arguments: dict[str, Any] = {"input": str(tmp_path / "in"), "lake": str(tmp_path / "lake")}
    run_job(spark, tiny_package, run_id="one", chunk_files=2, **arguments)
    run_job(spark, tiny_package, run_id="solo", lake=str(tmp_path / "lake"), input=str(mine))
    lake = opened(spark, tmp_path / "lake")
    shown = {row["path"]: row for row in captions(tmp_path / "lake")}
    caption, image_id = shown[f"file:{mine}"]["caption"], shown[f"file:{mine}"]["image_id"]
    for run_id, path in (("one", f"file:{mine}"), ("other", f"file:{tmp_path}/in/a/00000.png")):
        digests = shown_digests([(path, shown[path]["image_id"])])
        write_report(lake, run_id, f'<meta name="photographs" content="{digests}">{path}')
    secrets = ["my-face", "copy.png", image_id, f"'caption': {caption!r}"]
    before = traces(tmp_path / "lake", secrets)
    assert {word for words in before.values() for word in words} == set(secrets)
    requests = tmp_path / "requests.txt"
    requests.write_text(f"{mine}\n\n")
    keep(lake, forget_file=str(requests), retention_hours=0, unsafe_retention=True)
    assert traces(tmp_path / "lake", secrets[:3]) == {}
    same_words = [row for row in captions(tmp_path / "lake") if row["caption"] == caption]
    assert same_words or traces(tmp_path / "lake", secrets) == {}
    assert [file.name for file in (tmp_path / "lake" / "reports").glob("*.html")] == ["other.html"]
    assert len(captions(tmp_path / "lake")) == 5

    (tmp_path / "in" / "c").mkdir()
    (tmp_path / "in" / "c" / "third.png").write_bytes(mine.read_bytes())
    (tmp_path / "in" / "c" / "new.png").write_bytes(photograph(99))
    capsys.readouterr()
    run_job(spark, tiny_package, run_id="two", **arguments)
    told = capsys.readouterr().out
    assert "9 files = 5 already done + 1 captioned + 0 rejected + 3 excluded" in told
    assert "1 inferences" in told
    assert traces(tmp_path / "lake", [*secrets[:3], "third.png"]) == {}
    run = runs(tmp_path / "lake")["two"]
    assert (run["state"], run["found"], run["excluded"]) == ("succeeded", 9, 3)
    run_job(spark, tiny_package, run_id="three", **arguments)
    run = runs(tmp_path / "lake")["three"]
    assert (run["already_done"], run["excluded"], run["captioned"]) == (6, 3, 0)


def test_what_a_run_commits_while_its_photograph_is_withdrawn_goes_with_the_next_maintenance(
    lake: Lake,
) -> None:
    exclusions = forget(lake, "file:/in/a/mine")
    add_captions(lake, ("file:/in/a/mine", "p1", NOON), ("file:/in/a/yours", "p1", NOON))
    assert delete_excluded(lake, exclusions) == 1
    assert [row.path for row in lake.captions().collect()] == ["file:/in/a/yours"]


def test_a_hash_excludes_the_bytes_under_every_path(lake: Lake) -> None:
    image_id = hashlib.sha256(b"face").hexdigest()
    chosen = MaintainSettings(forget_hash=image_id.upper())
    asked = read_requests(lake.spark, chosen, env_local=True)
    exclusions = forget(lake, images=tuple(asked.images))
    assert exclusions.images == {digest_of(IMAGE, image_id)}
    assert exclusions.holds_image(image_id)
    assert not exclusions.holds_image(image_id[::-1])
    assert not exclusions.holds_image(None)


def test_a_path_also_excludes_the_bytes_that_lie_there_now(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / ODD_NAME).write_bytes(b"face")
    exclusions = forget(lake, f"file:{tmp_path}/{ODD_NAME}")
    assert exclusions.holds_path(f"file:{tmp_path}/{ODD_NAME}")
    assert exclusions.holds_image(hashlib.sha256(b"face").hexdigest())
    forget(lake, f"file:{tmp_path}/{ODD_NAME}")
    table = IndependentReader(lake.exclusions_uri.removeprefix("file:")).to_pyarrow_table()
    assert sorted(table["kind"].to_pylist()) == [IMAGE, PATH]


def test_a_folder_is_not_forgotten_by_mistake(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        forget(lake, f"file:{tmp_path}")


def test_a_photograph_that_can_not_be_read_holds_up_nothing_else(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    paths = [f"file:{tmp_path}/pipe.png", "file:/in/mine", "file:/in/misspelt"]
    add_captions(lake, ("file:/in/mine", "p1", NOON), ("file:/in/yours", "p1", NOON))
    requests = tmp_path / "requests.txt"
    requests.write_text("\n".join(paths))
    with pytest.raises(InputError, match=r"1 photographs .* no regular file"):
        keep(lake, forget_file=str(requests))
    assert [row.path for row in lake.captions().collect()] == ["file:/in/yours"]
    exclusions = ExclusionList(lake.spark, lake.exclusions_uri).now()
    assert exclusions.paths_among(paths) == set(paths)
    assert "1 of the paths to forget have no row" in capsys.readouterr().out


def test_requests_are_read_with_a_byte_order_mark_and_in_no_other_encoding(
    spark: SparkSession, tmp_path: Path
) -> None:
    requests = tmp_path / "requests.txt"
    chosen = MaintainSettings(forget_file=str(requests))
    requests.write_bytes("file:/in/müller.jpg\r\n".encode("utf-8-sig"))
    assert read_requests(spark, chosen, env_local=True).paths == {"file:/in/müller.jpg"}
    requests.write_bytes("file:/in/müller.jpg\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_requests(spark, chosen, env_local=True)


def test_a_list_sees_what_is_withdrawn_after_it_was_made(lake: Lake) -> None:
    exclusions = ExclusionList(lake.spark, lake.exclusions_uri)
    assert not exclusions.now()
    forget(lake, "file:/in/mine")
    assert exclusions.now().paths_among(["file:/in/mine", "file:/in/yours"]) == {"file:/in/mine"}


def test_superseded_versions_go_once_old_and_a_rollback_keeps_its_own(lake: Lake) -> None:
    add_captions(lake, ("file:/1", "p1", LONG_AGO), ("file:/2", "p1", LONG_AGO))
    add_captions(lake, ("file:/1", "p2", LONG_AGO), ("file:/2", "p2", LONG_AGO))
    add_captions(lake, ("file:/1", "p3", NOON.replace(year=2100)))
    add_run(lake, "r1", "p1", LONG_AGO)
    add_run(lake, "r2", "p2", LONG_AGO + timedelta(hours=1))
    before = latest(lake)
    assert delete_superseded(lake, older_than_days=200) == 0
    assert delete_superseded(lake, older_than_days=30) == 2
    assert latest(lake) == before
    assert {row.pipeline_version for row in lake.captions().collect()} == {"p2", "p3"}


def test_a_superseded_version_stays_where_a_run_under_way_captions_with_it(lake: Lake) -> None:
    for version in ("p1", "p2"):
        add_captions(lake, ("file:/1", version, LONG_AGO), ("file:/2", version, LONG_AGO))
    add_run(lake, "r2", "p2", LONG_AGO)
    add_run(lake, "rollback", "p1", datetime.now(UTC), state="running")
    assert delete_superseded(lake, older_than_days=30) == 0
    add_run(lake, "rollback", "p1", datetime.now(UTC), state="failed")
    assert delete_superseded(lake, older_than_days=30) == 2


def test_old_runs_go_but_those_that_the_latest_captions_need(lake: Lake) -> None:
    add_captions(lake, ("file:/1", "p1", LONG_AGO), ("file:/1", "p2", LONG_AGO))
    add_run(lake, "superseded", "p1", LONG_AGO)
    add_run(lake, "needed", "p1", LONG_AGO + timedelta(hours=2))
    add_run(lake, "other-version", "p2", LONG_AGO + timedelta(hours=1))
    add_run(lake, "failed", "p2", LONG_AGO, state="failed")
    add_run(lake, "young", "p1", datetime.now(UTC), batches=("b",))
    before = latest(lake)
    assert delete_old_runs(lake, older_than_days=30) == 2
    assert {row.run_id for row in lake.runs().collect()} == {"needed", "other-version", "young"}
    assert latest(lake) == before


def test_a_retention_that_could_hurt_others_is_refused(lake: Lake) -> None:
    with pytest.raises(UsageError, match="--unsafe-retention"):
        keep(lake, retention_hours=1)
    with Claims(lake, "night").hold(["a"]), pytest.raises(ClaimedElsewhereError, match="night"):
        keep(lake, retention_hours=1, unsafe_retention=True)


def test_a_place_without_a_lake_is_refused_and_none_is_made(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(LakeError, match="There is no lake"):
        opened(spark, tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_maintenance_beside_captioning_loses_and_doubles_nothing(lake: Lake) -> None:
    chunks = [[f"file:/in/a/{chunk}-{file}" for file in range(3)] for chunk in range(4)]
    exclusions = forget(lake, "file:/in/a/2-1")

    def caption() -> None:
        for paths in chunks:
            commit(lake, paths)

    with ThreadPoolExecutor(2) as pool:
        captioning = pool.submit(caption)
        vacuum(lake.spark, lake.captions_uri, retention_hours=168)
        while not captioning.done():
            delete_excluded(lake, exclusions)
            compact(lake.spark, lake.captions_uri)
        captioning.result()
    delete_excluded(lake, exclusions)
    expected = sorted(path for paths in chunks for path in paths if path != "file:/in/a/2-1")
    assert [row["path"] for row in captions(Path(lake.uri.removeprefix("file:")))] == expected


def commit(lake: Lake, paths: list[str]) -> None:
    rows = [{"path": path, "file_size_bytes": 1, "mtime": NOON} for path in paths]
    listing = pa.Table.from_pylist(rows, schema=LISTING)
    files = find_pending(
        lake, listing, pipeline_version="p", retry_limit=3, transient_reasons=["vanished"]
    )
    done = [
        {"path": path, "image_id": "ab" * 32, "status": "captioned", "caption": "x", "score": 1.0}
        for path in files["path"].to_pylist()
    ]
    stamp = Stamp("night", "tiny", "m", "p")
    commit_chunk(lake, files, pa.Table.from_pylist(done, schema=OUTCOMES), stamp=stamp)


def test_a_page_of_a_run_lies_under_a_name_that_hdfs_allows(lake: Lake) -> None:
    uri = report_uri(lake, "scheduled__2026-11-23T00:00:00+00:00")
    assert uri == f"{lake.uri}/reports/scheduled__2026-11-23T00%3A00%3A00+00%3A00.html"
