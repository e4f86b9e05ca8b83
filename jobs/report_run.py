"""Write a run's page beside the tables, for the morning after: `report_run`."""

from __future__ import annotations

import logging
import os
import sys

from conf.reporting import ReportSettings
from conf.resolve import Resolved
from jobs.cli import required, run_command
from jobs.report_data import RunData, read_run
from jobs.report_gallery import make_photographs
from jobs.report_page import judge, render_page
from jobs.session import session
from jobs.stopping import Stop
from models.tracking import reason_of, store_failures, use_store
from storage.lake import Lake, open_existing_lake
from storage.paths import qualify
from storage.reports import shown_digests, write_report

JOB = "report_run"
EXPERIMENT = "caption_images"
RUN_TAG = "captionlake.run_id"
DESCRIPTION = """\
Write one HTML page of a captioning run to LAKE/reports/RUN_ID.html.

It tells the counts, where the time went, throughput and captions against the runs before, and shows
photographs at random, of the lowest scores, and rejected ones. It needs no other file and no
network. Written again, it replaces the page. With a tracking URI, figures and a page without
photographs, paths and captions also go to MLflow.

exit codes: 0 done, 2 usage, 3 no such run, 5 lake, 6 environment, 143 terminated
"""
log = logging.getLogger("captionlake")


def main(resolved: Resolved[ReportSettings], stop: Stop) -> None:
    """Run the job from its settings to the page."""
    settings = resolved.settings
    required(settings, "lake", "run_id")
    with session(JOB, resolved.environment, stop) as spark:
        uri = qualify(spark, str(settings.lake), env_local=resolved.environment.is_local)
        lake = open_existing_lake(spark, uri)
        data = read_run(lake, str(settings.run_id), photographs=settings.photographs)
        stop.check()
        print(f"Report: {report(lake, data)}")
    for check in judge(data):
        print(f"{check.verdict}: {check.name}. {check.says}")
    log_to_mlflow(data, settings)


def report(lake: Lake, data: RunData) -> str:
    """Write the page and return where it lies."""
    rows = data.chosen.all()
    photographs = make_photographs(lake.spark, rows)
    digests = shown_digests((row["path"], row["image_id"]) for row in rows)
    return write_report(lake, data.run.run_id, render_page(data, photographs, digests=digests))


def log_to_mlflow(data: RunData, settings: ReportSettings) -> None:
    """Leave figures and the page without personal data in MLflow, where it is configured."""
    tracking_uri = settings.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not tracking_uri:
        return
    import mlflow

    run = data.run
    try:
        use_store(tracking_uri)
        mlflow.set_experiment(EXPERIMENT)
        known = mlflow.search_runs(
            filter_string=f"tags.`{RUN_TAG}` = '{run.run_id}'", output_format="list"
        )
        started = known[0].info.run_id if known else None
        with mlflow.start_run(run_id=started, run_name=run.run_id, tags={RUN_TAG: run.run_id}):
            mlflow.log_metrics(figures(data))
            page = render_page(data, {}, digests="", is_private=True)
            mlflow.log_text(page, "report.html")
    except store_failures() as error:
        log.warning("MLflow keeps no record of this run: %s", reason_of(error))


def figures(data: RunData) -> dict[str, float]:
    """Return the run's numbers by name."""
    run = data.run
    counts = ("found", "already_done", "captioned", "rejected", "excluded", "claimed_elsewhere")
    values = {name: float(getattr(run, name)) for name in counts}
    values |= {f"seconds_{name}": value for name, value in run.stage_seconds.items()}
    if run.images_per_second is not None:
        values["images_per_second"] = run.images_per_second
    if data.speech.distinct_share is not None:
        values["distinct_share"] = data.speech.distinct_share
    return values


if __name__ == "__main__":
    sys.exit(run_command(main, ReportSettings, command=JOB, description=DESCRIPTION))
