"""Settings of `maintain_tables`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from conf.settings import Settings

Days = Annotated[int, Field(ge=1)]
WEEK_HOURS = 168.0
SAFE_HOURS = 24.0


class MaintainSettings(Settings):
    """Settings of `maintain_tables`."""

    lake: str | None = Field(None, description="folder of the Delta tables")
    retention_hours: float = Field(
        WEEK_HOURS,
        ge=0.0,
        description="files that the tables haven't needed for so long are deleted; readers of an "
        f"older state fail, and less than {SAFE_HOURS:g} needs --unsafe-retention",
    )
    unsafe_retention: bool = Field(
        False,
        description=f"allow less than {SAFE_HOURS:g} hours, while no run is at work; readers may "
        "fail, and a commit under way elsewhere would lose its files",
    )
    keep_runs_days: Days | None = Field(
        None, description="delete older rows of runs that captions_latest doesn't need"
    )
    keep_superseded_days: Days | None = Field(
        None,
        description="delete the rows of pipeline versions that captions_latest needs nowhere in "
        "their batch, once they are older",
    )
    forget: str | None = Field(
        None, description="path of a photograph to delete from the lake and keep out of it"
    )
    forget_hash: str | None = Field(
        None, description="the same by the SHA-256 of its bytes, wherever it lies"
    )
    forget_file: str | None = Field(
        None, description="file of paths and hashes to forget, one a line, on any filesystem"
    )

    @field_validator("forget_hash")
    @classmethod
    def _hash_is_sha256(cls, value: str | None) -> str | None:
        if value is not None and not is_sha256(value):
            raise ValueError("takes 64 hexadecimal digits")
        return value.lower() if value else value


def is_sha256(text: str) -> bool:
    """Whether the text is a SHA-256 in hex."""
    return len(text) == 64 and set(text.lower()) <= set("0123456789abcdef")
