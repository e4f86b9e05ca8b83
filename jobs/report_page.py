"""From what the tables tell to one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from jobs.report_data import RunData
from jobs.report_gallery import Photograph, visible
from jobs.report_health import (
    FINE,
    RAISED,
    SCORE_BINS,
    UNKNOWN,
    Check,
    check_rejected,
    check_speech,
    check_speed,
)
from jobs.report_plot import Column, draw_columns
from jobs.stage_budget import CAPTIONING, DRIVER_STAGES, bottleneck
from storage.runs import RunRecord
from udfs.budget import TASKS, WORKER_STAGES

NOT_KNOWN = "\N{EN DASH}"
LEAST_SECONDS = 0.05  # of a stage; less shows as 0.0
LONGEST_CAPTION = 20  # words; longer ones share the last column
_CHECK_CLASS = {RAISED: "bad", FINE: "good", UNKNOWN: "unsure"}
_CHECK_WORD = {RAISED: "look", FINE: "fine", UNKNOWN: "can't tell"}
_STATE_CLASS = {"succeeded": "good", "running": "unsure"}
_GALLERIES = (
    ("random", "Photographs at random", "Drawn by the run's name; each image once."),
    ("lowest", "Lowest scores", "The captions that the model was least sure of."),
    ("rejected", "Rejected", "Some of each reason. Not every one can be shown."),
)

Rows = Sequence[tuple[Any, ...]]


def render_page(
    data: RunData, photographs: Mapping[str, Photograph], *, digests: str, is_private: bool = False
) -> str:
    """Return the page.

    Args:
        data: what the tables tell.
        photographs: of the chosen rows, by path.
        digests: what the page says it shows (`storage.reports.shown_digests`).
        is_private: leave out photographs, paths and captions.
    """
    galleries = [] if is_private else _galleries(data, photographs)
    checks = judge(data)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(
        files("jobs").joinpath("report_page.html").read_text(encoding="utf-8")
    )
    return template.render(
        run=data.run,
        digests=digests,
        is_private=is_private,
        bar=_bar,
        when=_when(data.run),
        state_class=_STATE_CLASS.get(data.run.state, "bad"),
        sections=_sections(galleries),
        checks=checks,
        verdict=_verdict(checks),
        check_class=_CHECK_CLASS,
        check_word=_CHECK_WORD,
        galleries=galleries,
        **_outcome(data.run),
        **_time(data.run),
        **_throughput(data),
        **_captions(data),
        facts=_facts(data.run),
    )


def judge(data: RunData) -> list[Check]:
    """Return every check of the run, those to look at first."""
    done = [one for one in data.earlier if one.state == "succeeded"]
    shares = [share for one in done if (share := _rejected_share(one)) is not None]
    speeds = [one.images_per_second for one in done if one.images_per_second]
    checks = [
        *check_speech(data.speech, data.usual),
        check_rejected(_rejected_share(data.run), shares),
        check_speed(data.run.images_per_second, speeds),
    ]
    return sorted(checks, key=lambda check: (RAISED, FINE, UNKNOWN).index(check.verdict))


def _rejected_share(run: RunRecord) -> float | None:
    done = run.captioned + run.rejected
    return run.rejected / done if done else None


def _verdict(checks: Sequence[Check]) -> str:
    raised = [check.name.lower() for check in checks if check.verdict == RAISED]
    unknown = sum(check.verdict == UNKNOWN for check in checks)
    aside = f" {unknown} of {len(checks)} can't be told." if unknown else ""
    if raised:
        return f"Look at: {', '.join(raised)}.{aside}"
    return f"Nothing out of the ordinary.{aside}"


def _sections(galleries: Rows) -> list[tuple[str, str]]:
    fixed = [
        ("outcome", "Outcome"),
        ("checks", "Worth a look?"),
        ("time", "Time"),
        ("throughput", "Throughput"),
        ("captions", "Captions"),
    ]
    return [*fixed, *((id_, title) for id_, title, *_ in galleries), ("facts", "Facts")]


def _bar(share: float) -> Markup:
    """A share between 0 and 1 as a number and, where there is room, as a bar."""
    percent = f"{100 * share:.1f}"
    return Markup(  # noqa: S704  # a number
        f'<span class="percent">{percent} %</span>'
        f'<span class="track" aria-hidden="true"><span class="bar" style="width:{percent}%"></span>'
        "</span>"
    )


def _when(run: RunRecord) -> str:
    if run.ended_at is None:
        return f"begun {_moment(run.started_at)} UTC"
    minutes, seconds = divmod(round((run.ended_at - run.started_at).total_seconds()), 60)
    lasted = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f"{_moment(run.started_at)} UTC, took {lasted}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _outcome(run: RunRecord) -> dict[str, Any]:
    kinds = ("already_done", "captioned", "rejected", "excluded", "claimed_elsewhere")
    named = [(kind.replace("_", " "), getattr(run, kind)) for kind in kinds]
    total = sum(count for _, count in named)
    sign = "=" if total == run.found else "≠"
    parts = " + ".join(f"{count:,} {name}" for name, count in named)
    speed = f"{run.images_per_second:.1f}" if run.images_per_second else NOT_KNOWN
    reasons = sorted(run.reasons.items(), key=lambda item: (-item[1], item[0]))
    return {
        "tiles": [
            ("Files found", f"{run.found:,}"),
            *((name.capitalize(), f"{count:,}") for name, count in named),
            ("Images per second", speed),
        ],
        "equation": f"{run.found:,} found {sign} {parts}",
        "reasons": [(name, f"{count:,}", count / max(1, run.rejected)) for name, count in reasons],
    }


def _time(run: RunRecord) -> dict[str, Any]:
    seconds = run.stage_seconds
    tasks, captioning = seconds.get(TASKS, 0.0), seconds.get(CAPTIONING, 0.0)
    busy = f"{tasks:.1f} s of tasks, {tasks / captioning:.1f} at a time" if captioning else "none"
    driver = sum(seconds.get(name, 0.0) for name in (*DRIVER_STAGES, CAPTIONING))
    return {
        # How many slots there were isn't known here, so idle ones don't show as the bottleneck.
        "bottleneck": bottleneck(seconds, slots=0) if seconds else "nothing was measured.",
        "stages": [
            ("Workers", busy, _shares(seconds, WORKER_STAGES)),
            ("Driver", f"{driver:.1f} s", _shares(seconds, (*DRIVER_STAGES, CAPTIONING))),
        ],
    }


def _shares(seconds: Mapping[str, float], names: Sequence[str]) -> Rows:
    shown = {name: seconds[name] for name in names if seconds.get(name, 0.0) >= LEAST_SECONDS}
    whole = sum(shown.values())
    ordered = sorted(shown.items(), key=lambda item: (-item[1], item[0]))
    return [(name.replace("_", " "), f"{value:.1f}", value / whole) for name, value in ordered]


def _throughput(data: RunData) -> dict[str, Any]:
    runs = [*data.earlier, data.run]
    columns = [
        Column(
            f"{run.started_at:%m-%d}",
            run.images_per_second if run.state == "succeeded" or run is data.run else None,
            f"{run.run_id}: {_speed(run)} images/s, {run.state}",
            is_own=run is data.run,
        )
        for run in runs
    ]
    return {
        "throughput_plot": draw_columns(
            columns, title=f"Images per second of {len(runs)} runs", unit="images/s"
        ),
        "run_rows": [
            (
                _moment(run.started_at),
                run.run_id,
                run.state,
                f"{run.captioned:,}",
                f"{run.rejected:,}",
                _speed(run),
            )
            for run in reversed(runs)
        ],
    }


def _speed(run: RunRecord) -> str:
    return f"{run.images_per_second:.1f}" if run.images_per_second else NOT_KNOWN


def _captions(data: RunData) -> dict[str, Any]:
    own, usual = data.speech, data.usual
    words = [_many(counts) for counts in (own.words, usual.words)]
    tenths = [f".{tenth}" for tenth in range(SCORE_BINS)]
    lengths = [str(length) for length in range(1, LONGEST_CAPTION)] + [f"{LONGEST_CAPTION}+"]
    different = NOT_KNOWN if own.distinct_share is None else f"{own.distinct_share:.0%}"
    return {
        "speech_note": f"{own.images:,} different photographs were captioned, copies counted once; "
        f"{different} of their captions are different ones. {_compared(usual.images)}",
        "histograms": [
            (
                "Words in a caption",
                _histogram(lengths, *words, first=1, title="Share of captions by words"),
                "Share of photographs by words of the caption.",
            ),
            (
                "Scores",
                _histogram(tenths, own.scores, usual.scores, first=0, title="Share by score"),
                "Share of photographs by score; .3 is 0.3 to 0.4.",
            ),
        ],
        "frequent": [
            (visible(text), f"{count:,}", count / own.images) for text, count in own.frequent
        ],
    }


def _compared(images: int) -> str:
    if images:
        return f"Compared with {images:,} photographs of the last runs before."
    return "There is no earlier run to compare with."


def _many(words: Mapping[int, int]) -> dict[int, int]:
    """Return the counts with the longest captions in one bin."""
    counts: dict[int, int] = {}
    for length, count in words.items():
        place = min(max(length, 1), LONGEST_CAPTION)
        counts[place] = counts.get(place, 0) + count
    return counts


def _histogram(
    labels: Sequence[str],
    own: Mapping[int, int],
    usual: Mapping[int, int],
    *,
    first: int,
    title: str,
) -> Markup:
    here, before = sum(own.values()), sum(usual.values())
    columns = [
        Column(
            label,
            100 * own.get(place, 0) / here if here else None,
            f"{label}: {own.get(place, 0):,} photographs",
            usual=100 * usual.get(place, 0) / before if before else None,
        )
        for place, label in enumerate(labels, start=first)
    ]
    return draw_columns(columns, title=title, unit="%")


def _galleries(data: RunData, photographs: Mapping[str, Photograph]) -> Rows:
    rows = (data.chosen.random, data.chosen.lowest, data.chosen.rejected)
    return [
        (*gallery, [photographs[row["path"]] for row in chosen])
        for gallery, chosen in zip(_GALLERIES, rows, strict=True)
        if chosen
    ]


def _facts(run: RunRecord) -> Rows:
    return [
        ("Batches", ", ".join(visible(batch) for batch in run.batches) or "none"),
        ("Model version", run.model_version),
        ("Pipeline version", run.pipeline_version),
        ("Software", run.code_version),
        ("Begun", f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Ended", f"{run.ended_at:%Y-%m-%d %H:%M:%S} UTC" if run.ended_at else "not yet"),
    ]
