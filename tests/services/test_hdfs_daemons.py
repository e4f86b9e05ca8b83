"""The HDFS that other tests trust, seen through a client that shares no code with Spark's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hdfs import InsecureClient

from tests.services.hdfs_daemons import Hdfs, is_running

ROOT = Path(__file__).resolve().parents[2]
ORPHAN_MAKER = """\
import sys, time
from pathlib import Path
from tests.services.hdfs_daemons import running_hdfs
with running_hdfs(Path(sys.argv[1])) as hdfs:
    print(hdfs.name_node.process.pid, hdfs.data_node.process.pid, flush=True)
    time.sleep(600)
"""


def client(hdfs: Hdfs, *, user: str = "analyst") -> InsecureClient:
    return InsecureClient(hdfs.web_uri, user=user)


def read(hdfs: Hdfs, path: str) -> bytes:
    with client(hdfs).read(path) as reader:
        content: bytes = reader.read()
    return content


@pytest.fixture
def folder(hdfs: Hdfs) -> str:
    root = client(hdfs, user=os.environ.get("USER", "root"))
    root.makedirs("/daemons", permission="777")
    return "/daemons"


def test_a_file_comes_back_as_it_was_written(hdfs: Hdfs, folder: str) -> None:
    client(hdfs).write(f"{folder}/a [b]*{{c}} #%.jpg", data=b"\xff\xd8", overwrite=True)
    assert read(hdfs, f"{folder}/a [b]*{{c}} #%.jpg") == b"\xff\xd8"


def test_the_audit_log_names_exactly_the_files_opened_since_a_mark(hdfs: Hdfs, folder: str) -> None:
    client(hdfs).write(f"{folder}/early", data=b"1", overwrite=True)
    client(hdfs).write(f"{folder}/late", data=b"2", overwrite=True)
    read(hdfs, f"{folder}/early")
    mark = hdfs.audit_mark()
    client(hdfs).list(folder)
    assert hdfs.opened_files(mark) == []
    read(hdfs, f"{folder}/late")
    assert set(hdfs.opened_files(mark)) == {f"{folder}/late"}


def test_files_outlive_both_daemons(own_hdfs: Hdfs) -> None:
    client(own_hdfs, user="root").write("/kept", data=b"still here")
    own_hdfs.stop()
    own_hdfs.name_node.start()
    own_hdfs.data_node.start()
    own_hdfs.wait_until_ready()
    assert read(own_hdfs, "/kept") == b"still here"


def test_a_killed_test_run_leaves_no_daemon(hdfs: Hdfs, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ORPHAN_MAKER, str(tmp_path / "hdfs")]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    daemons = [int(pid) for pid in run.stdout.readline().split()]
    assert len(daemons) == 2
    run.send_signal(signal.SIGKILL)
    run.wait()
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in daemons) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(is_running(pid) for pid in daemons)
