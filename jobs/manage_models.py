"""List the registered versions of a model, promote one, roll back: `manage_models`."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from conf.errors import UsageError
from conf.evaluation import ManageSettings
from conf.resolve import Resolved
from jobs.cli import run_command
from jobs.stopping import Stop
from models.registry import RegisteredVersion, list_versions, promote, roll_back

JOB = "manage_models"
DESCRIPTION = """\
Show a model's registered versions with their figures, and choose the champion.

caption_images --model models:/captioner@champion uses whichever version is champion when it
starts; captions of both versions stay in the table, and captions_latest follows the last run.
"""
FIGURES = {"cider": "CIDEr", "bleu_4": "BLEU-4", "rouge_l": "ROUGE-L", "mean_words": "words"}


def main(resolved: Resolved[ManageSettings], _: Stop) -> None:
    """Do what was asked, then show the versions as they are now."""
    settings = resolved.settings
    name, tracking_uri = settings.name, settings.tracking_uri
    if settings.action == "promote":
        if settings.version is None:
            raise UsageError("--version must be given.", remedy="See --action list.")
        promote(settings.version, name=name, tracking_uri=tracking_uri)
        print(f"Version {settings.version} of {name} is champion now.")
    elif settings.action == "rollback":
        print(f"Version {roll_back(name=name, tracking_uri=tracking_uri)} is champion again.")
    print_versions(name, list_versions(name=name, tracking_uri=tracking_uri))


def print_versions(name: str, versions: list[RegisteredVersion]) -> None:
    """Show versions, the newest first, with their figures on dev."""
    table = Table(title=f"Versions of {name}")
    for heading in ("version", "", *FIGURES.values(), "measured with", "dev set", "model"):
        table.add_column(heading)
    for version in versions:
        figures = [
            f"{version.figures[key]:.3f}" if key in version.figures else "" for key in FIGURES
        ]
        champion = "champion" if version.is_champion else ""
        how = version.measurement
        with_what = f"{how.precision}, beam {how.beam_width}" if how.precision else ""
        lineage = how.dev_set[:12], version.model_version[:12]
        table.add_row(str(version.number), champion, *figures, with_what, *lineage)
    Console(width=110).print(table)


if __name__ == "__main__":
    sys.exit(run_command(main, ManageSettings, command=JOB, description=DESCRIPTION))
