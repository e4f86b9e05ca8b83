"""Where settings come from, and how wrong ones are refused."""

from __future__ import annotations

import pytest

from conf.environments import environment_names, load_environment
from conf.errors import UsageError
from conf.resolve import Resolved, resolve
from conf.settings import CaptionSettings


def resolved(*arguments: str, **variables: str) -> Resolved[CaptionSettings]:
    result, _ = resolve(
        CaptionSettings, arguments, command="job", description="", variables=variables
    )
    return result


def test_an_option_outweighs_a_variable_which_outweighs_the_default() -> None:
    assert resolved().settings.chunk_files == CaptionSettings().chunk_files
    assert resolved(CAPTIONLAKE_CHUNK_FILES="7").settings.chunk_files == 7
    chosen = resolved("--chunk-files", "5", CAPTIONLAKE_CHUNK_FILES="7")
    assert chosen.settings.chunk_files == 5
    assert chosen.origins["chunk_files"] == "option"


def test_the_environment_file_outweighs_the_default() -> None:
    chosen = resolved("--env", "local")
    assert chosen.origins["threads_per_task"] == "conf/local.toml"


def test_print_config_names_each_value_and_its_origin() -> None:
    lines = resolved("--beam-width", "3").describe().splitlines()
    assert "beam-width = 3  (option)" in lines
    assert "dry-run = False  (default)" in lines


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (("--no-such-option",), "no-such-option"),
        (("--beam-width", "0"), "--beam-width"),
        (("--beam-width", "three"), "three"),
        (("--env", "mars"), "mars"),
        (("--run-id", "a b"), "--run-id"),
        (("--max-rejected-share", "1.5"), "--max-rejected-share"),
        (("--precision", "int4"), "int4"),
    ],
)
def test_wrong_use_names_the_culprit(arguments: tuple[str, ...], culprit: str) -> None:
    with pytest.raises(UsageError, match=culprit) as refusal:
        resolved(*arguments)
    assert "\n" not in str(refusal.value)


def test_a_wrong_variable_is_named_as_the_origin() -> None:
    with pytest.raises(UsageError, match="variable"):
        resolved(CAPTIONLAKE_BEAM_WIDTH="x")


@pytest.mark.parametrize("name", environment_names())
def test_every_environment_file_holds_settings_and_properties_that_exist(name: str) -> None:
    environment = load_environment(name)
    unknown = set(environment.job) - set(CaptionSettings.model_fields)
    assert not unknown
    assert all(key.startswith("spark.") for key in environment.spark)
    resolved("--env", name)
