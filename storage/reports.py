"""The pages of runs, beside the tables: `<lake>/reports/<run_id>.html`.

A page says in its head which photographs it shows, as digests of the exclusion list, so that a
withdrawn one is found without knowing what it was.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from urllib.parse import quote

from conf.errors import LakeError
from storage.excluded import IMAGE, PATH, Exclusions, digest_of
from storage.hadoop import delete_file, list_times, read_start, reported_as, write_text
from storage.lake import Lake

_SHOWS = "photographs"
_META = re.compile(rf'<meta name="{_SHOWS}" content="([0-9a-f ]*)">')
_HEAD_BYTES = 64 * 1024


def report_uri(lake: Lake, run_id: str) -> str:
    """Return where a run's page lies; no name on HDFS may hold a run id's colon."""
    return f"{lake.reports_uri}/{quote(run_id, safe='+')}.html"


def shown_digests(photographs: Iterable[tuple[str, str | None]]) -> str:
    """Return what the page's `<meta name="photographs">` holds, given paths and image ids."""
    digests = set()
    for path, image_id in photographs:
        digests.add(digest_of(PATH, path))
        if image_id is not None:
            digests.add(digest_of(IMAGE, image_id))
    return " ".join(sorted(digests))


def write_report(lake: Lake, run_id: str, page: str) -> str:
    """Write a run's page in place of an earlier one, and return where it lies.

    Raises:
        LakeError: it can't be written.
    """
    uri = report_uri(lake, run_id)
    with reported_as(LakeError, f"Can't write {uri}"):
        write_text(lake.spark, uri, page)
    return uri


def delete_reports(lake: Lake, exclusions: Exclusions) -> list[str]:
    """Delete the pages that show a withdrawn photograph; return their names.

    Raises:
        LakeError: they can't be read or deleted.
    """
    digests = exclusions.paths | exclusions.images
    if not digests:
        return []
    with reported_as(LakeError, f"Can't clean {lake.reports_uri}"):
        names = [
            name for name in list_times(lake.spark, lake.reports_uri) if name.endswith(".html")
        ]
        shown = [name for name in sorted(names) if _shows(lake, name, digests)]
        for name in shown:
            delete_file(lake.spark, f"{lake.reports_uri}/{name}")
    return shown


def _shows(lake: Lake, name: str, digests: Collection[str]) -> bool:
    head = read_start(lake.spark, f"{lake.reports_uri}/{name}", _HEAD_BYTES)
    found = _META.search(head)
    # A page that doesn't say what it shows may show anything.
    return found is None or not set(digests).isdisjoint(found.group(1).split())
