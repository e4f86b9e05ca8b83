"""Who reads on after a chunk that workers couldn't read from HDFS: Spark, if it could."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from conf.filesystem import HdfsAddress
from jobs.files import HdfsFiles, is_unreadable
from models.reasons import Reason
from udfs.caption import as_batch
from udfs.outcome import CAPTIONED, Outcome

LARGEST_BYTES = 1000
READ = Outcome("hdfs://host:8020/read", status=CAPTIONED)
UNREAD = Outcome("hdfs://host:8020/unread", reason=Reason.UNREADABLE, detail="why")


def table(*outcomes: Outcome) -> pa.Table:
    return pa.Table.from_batches([as_batch(list(outcomes))])


class BySpark:
    def assign(self, units: Any, *, largest_bytes: int) -> tuple[str, Any]:
        assert largest_bytes == LARGEST_BYTES
        return "by Spark", units


class Numbers:
    def range(self, *_: int) -> str:
        return "by workers"


def files() -> HdfsFiles:
    address = HdfsAddress("hdfs://host:8020", "somebody", ())
    spark: Any = Numbers()
    by_spark: Any = BySpark()
    return HdfsFiles(spark, address, by_spark, max_file_bytes=100, readers=4)


@pytest.mark.parametrize(
    ("unread", "read_by_spark", "reader"),
    [
        (9, 9, "by Spark"),
        (9, 5, "by workers"),  # the files are bad, not the workers
        (9, 0, "by workers"),
        (3, 3, "by workers"),
    ],
)
def test_spark_reads_on_if_it_could_read_most_of_the_chunk(
    unread: int, read_by_spark: int, reader: str
) -> None:
    some = files()
    some.learn(table(*[UNREAD] * unread), table(*[READ] * read_by_spark), of_files=10)
    chosen: Any = some.assign([["a"]], largest_bytes=LARGEST_BYTES)[0]
    assert chosen == reader


def test_unreadable_outcomes_are_told_from_all_others() -> None:
    outcomes = table(READ, UNREAD, Outcome("empty", reason=Reason.EMPTY))
    assert is_unreadable(outcomes).to_pylist() == [False, True, False]
