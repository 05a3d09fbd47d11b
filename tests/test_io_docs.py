"""The page about formats names every format, with what it can do."""

from __future__ import annotations

import re
from pathlib import Path

from egopose.io import formats

PAGE = Path(__file__).resolve().parent.parent / "docs" / "formats.md"


def test_the_page_lists_every_format_and_only_those() -> None:
    rows = [[cell.strip() for cell in line.split("|")] for line in PAGE.read_text().splitlines()]
    stated = {row[1].strip("`"): (row[3] == "yes", row[4] == "yes") for row in rows if row[1:] and row[1][:1] == "`"}
    assert stated == {entry.name: (entry.read is not None, entry.write is not None) for entry in formats()}


def test_every_option_named_on_the_page_exists() -> None:
    options = {name for entry in formats() for names in entry.options.values() for name in names}
    named = set(re.findall(r"`([A-Za-z_]+)=", PAGE.read_text()))
    assert named - options == {"format"}
