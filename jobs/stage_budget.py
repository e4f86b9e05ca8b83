"""Where a run's time went, what held it up, and what to change."""

from __future__ import annotations

from collections.abc import Mapping

from udfs.budget import AHEAD, TASKS, WORKER_STAGES

CAPTIONING = "captioning"
WAITING = "waiting"  # for other runs to finish with the same batches
# What the driver does before and after captioning, one thing after the other, in wall time.
DRIVER_STAGES = ("listing", "open_lake", "pending", "bookkeeping", "reconcile")
BUSY_SHARE = 0.7  # below it, the task slots waited for the driver more than for anything else

Seconds = Mapping[str, float]

ADVICE = {
    "start": "Python workers are slow to start; more images per run pay for it.",
    "load": "loading the model once per worker; more images per run, or fewer slots, pay for it.",
    "wait": "tasks wait for bytes from the storage or for decode threads; check the storage's "
    "throughput, or raise --decode-threads (beside a GPU: the cores of a task).",
    "read": "reading the files; check the storage's throughput.",
    "decode": "decoding on the tasks' cores; store smaller photographs, or add cores.",
    "encode": "the model's encoder, as it should be; add cores or GPUs, use --precision int8, or "
    "a model with a lighter encoder.",
    "generate": "generating words; add cores or GPUs, lower --beam-width, or use a model with "
    "fewer or narrower decoder layers.",
    "write": "handing rows over to Spark; raise --partition-files.",
}
SLOTS_ADVICE = (
    "task slots stood idle between tasks; raise --chunk-files, lower --partition-files, or use "
    "fewer slots for so few files."
)
DRIVER_ADVICE = "the driver's own work around the captioning; more images per run pay for it."


def describe_stages(seconds: Seconds, *, slots: int) -> str:
    """Return the budget of workers and driver, and the bottleneck, as lines of text."""
    return "\n".join(
        (
            _describe_tasks(seconds),
            _describe_driver(seconds),
            f"Bottleneck: {bottleneck(seconds, slots=slots)}",
        )
    )


def bottleneck(seconds: Seconds, *, slots: int) -> str:
    """Return the name of what took longest, and what to change."""
    tasks, captioning = seconds.get(TASKS, 0.0), seconds.get(CAPTIONING, 0.0)
    driver = sum(seconds.get(stage, 0.0) for stage in DRIVER_STAGES)
    if driver > captioning:
        return f"driver: {DRIVER_ADVICE}"
    if tasks < BUSY_SHARE * slots * captioning:
        return f"idle slots: {SLOTS_ADVICE}"
    longest = max(WORKER_STAGES, key=lambda stage: seconds.get(stage, 0.0))
    return f"{longest}: {ADVICE[longest]}"


def _describe_tasks(seconds: Seconds) -> str:
    whole = seconds.get(TASKS, 0.0)
    shares = [
        f"{name} {100 * seconds[name] / whole:.0f} %"
        for name in sorted(WORKER_STAGES, key=lambda name: -seconds.get(name, 0.0))
        if whole and seconds.get(name, 0.0) >= 0.005 * whole
    ]
    ahead = [
        f"{name.removesuffix(AHEAD)} {value:.1f} s"
        for name, value in sorted(seconds.items())
        if name.endswith(AHEAD)
    ]
    beside = f"; in decode threads: {', '.join(ahead)}" if ahead else ""
    return f"Tasks:  {whole:.1f} s = {', '.join(shares)}{beside}"


def _describe_driver(seconds: Seconds) -> str:
    stages = {
        name: seconds[name] for name in (*DRIVER_STAGES, WAITING, CAPTIONING) if name in seconds
    }
    shown = sorted(stages.items(), key=lambda stage: -stage[1])
    beside = f" (commits beside it {seconds.get('commit', 0.0):.1f})"
    return "Driver: " + ", ".join(
        f"{name} {value:.1f} s{beside if name == CAPTIONING else ''}" for name, value in shown
    )
