"""Errors that end a command, each with the exit code a scheduler sees.

An error message names the culprit; the remedy says what to do about it. Both are printed on one
line and no traceback follows.
"""

from __future__ import annotations


class CaptionlakeError(Exception):
    """Base of every error that the commands report to their user."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()


class UsageError(CaptionlakeError):
    """The command line or a setting is wrong."""

    exit_code = 2


class InputError(CaptionlakeError):
    """The input is missing, empty or not ready."""

    exit_code = 3


class ModelError(CaptionlakeError):
    """The model package can't be found, read or trusted."""

    exit_code = 4


class LakeError(CaptionlakeError):
    """The Delta tables can't be opened, read or written."""

    exit_code = 5


class EnvironmentFault(CaptionlakeError):
    """The machine or the cluster fails: Java, disk, network, storage, a missing GPU."""

    exit_code = 6


class RejectedShareError(CaptionlakeError):
    """More images were rejected than the run allows; everything is committed."""

    exit_code = 7


class ReconciliationError(CaptionlakeError):
    """The committed table doesn't account for every listed file."""

    exit_code = 8


class ClaimedElsewhereError(CaptionlakeError):
    """Another live run works on the same input."""

    exit_code = 9
