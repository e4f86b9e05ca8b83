"""The sample photographs are there, real, and decode."""

from __future__ import annotations

import pytest

from conf.errors import EnvironmentFault
from models import samples
from models.images import preprocess_image


def test_every_sample_photograph_decodes() -> None:
    outcomes = [
        preprocess_image(path.read_bytes(), size=64) for path in samples.sample_photographs()
    ]
    assert len(outcomes) == 8
    assert [outcome.reason for outcome in outcomes] == [None] * 8


def test_samples_have_names_of_their_own() -> None:
    names = [path.name for path in samples.sample_photographs()]
    assert len(set(names)) == len(names)


def test_a_missing_package_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_PHOTOGRAPHS", (("no_such_package", "a.jpg"),))
    with pytest.raises(EnvironmentFault, match=r"constraints\.txt"):
        samples.sample_photographs()
