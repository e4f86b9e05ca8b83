"""The page itself: text stays text, every part is named, nothing comes from elsewhere."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from jobs.report_data import Chosen, RunData
from jobs.report_gallery import Photograph, visible
from jobs.report_health import Speech
from jobs.report_page import render_page
from storage.runs import RunRecord

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SCRIPT = '<script>alert("x")</script>\'"&{{ 7*7 }}'
HEADINGS = ("h1", "h2", "h3")


def a_run(**changes: object) -> RunRecord:
    fields = {
        "ended_at": NOON + timedelta(minutes=3),
        "state": "succeeded",
        "found": 10,
        "captioned": 7,
        "rejected": 3,
        "reasons": {"truncated": 2, "empty": 1},
        "stage_seconds": {"tasks": 9.0, "encode": 5.0, "generate": 3.0, "captioning": 5.0},
        "images_per_second": 31.25,
        "batches": (SCRIPT,),
    }
    return RunRecord(
        "night",
        "caption_images",
        "{}",
        "1",
        "m",
        "p",
        NOON,
        **{**fields, **changes},  # type: ignore[arg-type]
    )


def a_page(*, is_private: bool = False) -> str:
    row = {"path": f"file:/in/{SCRIPT}.jpg", "image_id": "ab" * 32}
    photograph = Photograph(
        f"{SCRIPT}.jpg", "file:/in", None, "can't be read now", SCRIPT, 0.5, None, None
    )
    data = RunData(
        a_run(),
        [a_run(images_per_second=None, state="failed")],
        Speech(7, 0.5, {5: 7}, {3: 7}, [(SCRIPT, 3)]),
        Speech(0, None, {}, {}),
        Chosen([row], [row], []),
    )
    return render_page(data, {row["path"]: photograph}, digests="ab cd", is_private=is_private)


class Outline(HTMLParser):
    """Collects elements with their attributes, and the text outside of style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_hostile_names_and_captions_stay_text() -> None:
    outline = Outline(a_page())
    assert outline.named("script") == []
    assert outline.text.count(SCRIPT) >= 4  # name, caption, frequent caption, batch


def test_nothing_is_fetched_from_elsewhere() -> None:
    page = a_page()
    outline = Outline(page)
    for _, attributes in outline.elements:
        for name in ("src", "href", "action", "srcset", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert not re.search(r"url\(|@import|https?://", page)
    assert "default-src 'none'" in page


def test_headings_landmarks_tables_and_links_are_whole() -> None:
    outline = Outline(a_page())
    levels = [int(name[1]) for name, _ in outline.elements if name in HEADINGS]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for landmark in ("header", "nav", "main", "footer"):
        assert len(outline.named(landmark)) == 1
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = [str(link["href"])[1:] for link in outline.named("a")]
    wanted += [str(section["aria-labelledby"]) for section in outline.named("section")]
    assert set(wanted) <= set(ids)
    assert all(cell.get("scope") for cell in outline.named("th"))
    assert all(plot.get("aria-label") for plot in outline.named("svg"))


def luminance(colour: str) -> float:
    """Relative luminance as the WCAG defines it, of #rgb or #rrggbb."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", a_page(), flags=re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", blocks[scheme]))
    pairs = [(text, back) for text in ("ink", "soft", "accent") for back in ("page", "card")]
    pairs += [(state, f"{state}-soft") for state in ("good", "bad", "unsure")]
    for pair in pairs:
        dark, bright = sorted(luminance(colours[name]) for name in pair)
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, pair


def test_the_copy_for_mlflow_shows_no_photograph_path_or_caption() -> None:
    assert SCRIPT in Outline(a_page()).text.replace("file:/in/", "")
    private = a_page(is_private=True)
    assert Outline(private).text.count(SCRIPT) == 1  # the batch, a folder
    assert "<img" not in private


def test_the_counts_are_shown_with_their_sum() -> None:
    text = Outline(a_page()).text
    assert "10 found = 0 already done + 7 captioned + 3 rejected" in text
    assert "31.2" in text


def test_what_does_not_print_is_written_out() -> None:
    assert visible("a\n\u202eb\x00é日") == "a\\n\\u202eb\\x00é日"
