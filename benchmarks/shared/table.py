"""Rounds as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.shared.results import Round, describe_machine, median

BARE, PIPELINE = "bare loop", "pipeline, local files"
BEGIN, END = "<!-- throughput -->", "<!-- /throughput -->"
COLUMNS = (
    "model",
    "contestant",
    "images/s",
    "least to most",
    "share of the bare loop",
    "the pipeline is faster by",
    "images/s with start-up",
    "first captions after",
    "setting",
)
HEAD = (f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}")


def as_markdown(rounds: Sequence[Round], *, command: str) -> str:
    """Return the medians and ratios of all measured contestants, and how to measure again."""
    measured = [one for one in rounds if not one.is_sweep]
    if not measured:
        return "Nothing has been measured yet."
    lines = [
        f"`{command}` on {describe_machine()}; medians of {_repeats(measured)} repeats, in turns.",
        "",
        *HEAD,
    ]
    for model in dict.fromkeys(one.model for one in measured):
        of_model = [one for one in measured if one.model == model]
        contestants = dict.fromkeys(one.contestant for one in of_model)
        lines += [_row(of_model, contestant) for contestant in contestants]
    return "\n".join(lines)


def _repeats(rounds: Sequence[Round]) -> str:
    counts = {(one.model, one.contestant): 0 for one in rounds}
    for one in rounds:
        counts[one.model, one.contestant] += 1
    least, most = min(counts.values()), max(counts.values())
    return str(most) if least == most else f"{least} to {most}"


def _row(rounds: Sequence[Round], contestant: str) -> str:
    own = [one for one in rounds if one.contestant == contestant]
    speeds = [one.images_per_second for one in own]
    speed = median(speeds)
    first = [one.first_commit_seconds for one in own if one.first_commit_seconds is not None]
    cells = (
        f"{own[0].model}, {own[0].images} images",
        contestant,
        f"{speed:.1f}",
        f"{min(speeds):.1f} to {max(speeds):.1f}",
        _ratio(speed, _speed(rounds, BARE)),
        "" if contestant.startswith("pipeline") else _ratio(_speed(rounds, PIPELINE), speed),
        f"{median([one.images / one.total_seconds for one in own]):.1f}",
        f"{median(first):.0f} s" if first else "",
        str(own[0].setting or ""),
    )
    return f"| {' | '.join(cells)} |"


def _speed(rounds: Sequence[Round], contestant: str) -> float | None:
    speeds = [one.images_per_second for one in rounds if one.contestant == contestant]
    return median(speeds) if speeds else None


def _ratio(speed: float | None, base: float | None) -> str:
    return f"{speed / base:.2f}" if speed and base else ""


def replace_in(file: Path, table: str) -> None:
    """Put the table between the markers of a Markdown file."""
    text = file.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{file} has no {BEGIN} … {END}.")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    file.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
