"""Whatever dies, every image ends in exactly one row, and finished work is not done again.

Three seeded strikes; five are one of each kind, and dozens go with `CAPTIONLAKE_FAULT_STRIKES=40`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random

import pytest

from models.images import preprocess_image
from models.package import ModelPackage
from models.runtime import load_runtime
from tests.captioning import photograph
from tests.faults.campaign import Campaign
from tests.faults.strikes import STRIKES, Strike
from tests.services.cluster import WorkerSize, running_cluster
from tests.services.hdfs_daemons import jars_missing, running_hdfs

SEED = int(os.environ.get("CAPTIONLAKE_FAULT_SEED", "1"))
COUNT = int(os.environ.get("CAPTIONLAKE_FAULT_STRIKES", "3"))

# What can't write its end, because it is dead or the storage is, is marked by the run after it.
HONEST_STATES = {
    0: {"succeeded"},
    5: {"failed", "interrupted"},
    6: {"failed", "interrupted"},
    -9: {"interrupted"},
    137: {"interrupted"},
}

pytestmark = pytest.mark.timeout(300 + 240 * COUNT)  # seconds; each strike has a run of its own


def chosen_strikes() -> list[Strike]:
    """Return strikes of every kind in turn, in an order that the seed decides."""
    random = Random(SEED)
    rounds = -(-COUNT // len(STRIKES))
    return [one for _ in range(rounds) for one in random.sample(STRIKES, len(STRIKES))][:COUNT]


@pytest.fixture(scope="module")
def fought(
    tmp_path_factory: pytest.TempPathFactory, tiny_package: ModelPackage
) -> Iterator[Campaign]:
    """A campaign that is over."""
    if missing := jars_missing():
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("faults")
    (folder / "cluster").mkdir()
    size = WorkerSize(cores=1, memory="700m")
    with (
        running_hdfs(folder / "hdfs") as hdfs,
        running_cluster(folder / "cluster", workers=2, size=size) as cluster,
    ):
        campaign = Campaign(hdfs, cluster, tiny_package, seed=SEED)
        campaign.fight(chosen_strikes())
        yield campaign


def test_every_strike_fell_in_the_middle_of_the_work(fought: Campaign) -> None:
    assert len(fought.blows) == COUNT
    assert all(0 < blow.rows_before < blow.files for blow in fought.blows)


def test_no_reader_ever_saw_a_promise_broken(fought: Campaign) -> None:
    assert fought.observer.complaints == []


def test_no_commit_held_a_part_of_a_chunk(fought: Campaign) -> None:
    assert fought.parts_of_chunks() == {}


def test_the_runs_table_says_what_the_exit_codes_say(fought: Campaign) -> None:
    states = fought.runs()
    for run_id, code in fought.exit_codes.items():
        assert states[run_id] in HONEST_STATES[code], (run_id, code)


def test_every_file_ends_with_the_caption_of_its_own_image(
    fought: Campaign, tiny_package: ModelPackage
) -> None:
    assert set(fought.observer.rows) == set(fought.files)
    runtime = load_runtime(tiny_package, runtime="openvino", precision="float32")
    for path, row in fought.observer.rows.items():
        content = photograph(fought.files[path])
        pixels = preprocess_image(content, size=tiny_package.config.image_size).pixels
        assert pixels is not None
        assert row["caption"] == runtime.caption(pixels[None])[0].text
