"""What spark-submit.sh says before any Spark starts: usage, unknown jobs, missing prerequisites."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.services.checkout import Checkout, make_checkout

JOB = '''"""Say what it was asked."""
import sys
if __name__ == "__main__":
    print("job options:", sys.argv[1:])
'''
REQUIREMENTS = ("setup.py", "constraints.txt")
HELPER = '"""Not a job."""\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = make_checkout(tmp_path / "a check out")
    made.add_job("probe", JOB)
    made.add_job("helper", HELPER)
    return made


def submit(
    checkout: Checkout, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout.script, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def fake_java(folder: Path, version: str) -> str:
    """Return a JAVA_HOME whose java only tells a version."""
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020-01-01' >&2\n")
    java.chmod(0o755)
    return str(folder)


def path_without(folder: Path, *missing: str) -> str:
    """Return a PATH with the programs that the scripts use, less those named."""
    folder.mkdir()
    for name in ("awk", "bash", "basename", "cat", "df", "dirname", "env", "flock", "grep", "head",
                 "java", "mkdir", "paste", "readlink", "rm", "sed", "sha256sum"):  # fmt: skip
        where = next((p for p in map(Path, ("/usr/bin", "/bin")) if (p / name).exists()), None)
        if where and name not in missing:
            (folder / name).symlink_to(where / name)
    return str(folder)


def test_help_names_the_jobs_with_their_purpose(checkout: Checkout) -> None:
    result = submit(checkout, "--help")
    assert result.returncode == 0
    assert "probe                  Say what it was asked." in result.stdout
    assert "helper" not in result.stdout


def test_help_names_the_environments(checkout: Checkout) -> None:
    line = next(
        line for line in submit(checkout, "--help").stdout.splitlines() if "Environments" in line
    )
    assert "local" in line
    assert "common" not in line


def test_no_job_is_wrong_use(checkout: Checkout) -> None:
    assert submit(checkout, "--master", "local[1]").returncode == 2


@pytest.mark.parametrize("name", ["no_such_job", "helper"])
def test_an_unknown_job_is_refused_with_the_list_of_jobs(checkout: Checkout, name: str) -> None:
    result = submit(checkout, name)
    assert result.returncode == 2
    assert f"there is no job '{name}'" in result.stderr
    assert "probe" in result.stderr


def test_a_jobs_help_starts_no_spark(checkout: Checkout) -> None:
    result = submit(checkout, "--master", "spark://nowhere:1", "probe", "--help", "two words")
    assert result.stdout == "job options: ['--help', 'two words']\n"


def test_an_unknown_environment_is_wrong_use(checkout: Checkout) -> None:
    result = submit(checkout, "probe", "--env", "mars")
    assert result.returncode == 2
    assert "no environment 'mars'" in result.stderr


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.2", "25.0.3"])
def test_a_wrong_java_is_named_with_its_remedy(
    checkout: Checkout, tmp_path: Path, version: str
) -> None:
    result = submit(checkout, "probe", JAVA_HOME=fake_java(tmp_path / "jdk", version))
    assert result.returncode == 6
    assert f"Java {version}" in result.stderr
    assert "JDK 17" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_java_is_named_with_its_remedy(checkout: Checkout, tmp_path: Path) -> None:
    path = path_without(tmp_path / "bin", "java")
    result = submit(checkout, "probe", PATH=path, JAVA_HOME="")
    assert (result.returncode, result.stderr.count("\n")) == (6, 1)
    assert "Java is missing. Install JDK 17" in result.stderr


def test_a_missing_python_is_named_with_its_remedy(checkout: Checkout, tmp_path: Path) -> None:
    (checkout.root / ".venv" / ".captionlake-run").unlink()
    result = submit(checkout, "probe", PATH=path_without(tmp_path / "bin"))
    assert result.returncode == 6
    assert "Python 3.11 is missing. Install it" in result.stderr


def test_too_small_a_disk_is_named_before_anything_is_written(
    checkout: Checkout, tmp_path: Path
) -> None:
    (checkout.root / ".venv" / ".captionlake-run").unlink()
    full = tmp_path / "bin" / "df"
    full.parent.mkdir()
    full.write_text("#!/bin/sh\necho Filesystem\necho disk 10 8 2 80% /\n")
    full.chmod(0o755)
    result = submit(checkout, "probe", PATH=f"{full.parent}:{os.environ['PATH']}")
    assert result.returncode == 6
    assert f"Only 2 MiB are free in {checkout.root}" in result.stderr


def test_a_cluster_environment_needs_what_is_shipped_to_it(checkout: Checkout) -> None:
    result = submit(checkout, "probe", "--env", "standalone")
    assert result.returncode == 6
    assert "'standalone' ships dist/" in result.stderr
    assert "Run `make package` first." in result.stderr


def test_a_gpu_environment_needs_a_package_for_gpus(checkout: Checkout) -> None:
    (checkout.root / "dist").mkdir()
    (checkout.root / "dist" / "env.tar.gz").touch()
    made_from = b"".join((checkout.root / name).read_bytes() for name in REQUIREMENTS)
    key = hashlib.sha256(made_from).hexdigest()[:16]
    (checkout.root / "dist" / ".env-of").write_text(f"{key} \n")
    result = submit(checkout, "probe", "--env", "standalone-gpu")
    assert result.returncode == 6
    assert "Run `make package EXTRAS=gpu`." in result.stderr


def test_a_second_set_up_waits_for_the_first(checkout: Checkout, tmp_path: Path) -> None:
    (checkout.root / ".venv" / ".captionlake-run").unlink()
    (checkout.root / ".cache").mkdir()
    holder = subprocess.Popen(
        ["flock", checkout.root / ".cache" / "setup.lock", "sh", "-c", "echo held; sleep 600"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        command = [str(checkout.root / "tools" / "setup.sh"), "run"]
        second = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert second.stderr is not None
        assert "waiting for it" in second.stderr.readline()
        assert second.poll() is None
        second.kill()
        second.wait()
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
