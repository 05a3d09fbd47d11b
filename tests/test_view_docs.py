"""The guide names options that exist; its examples run in test_docs.py."""

from __future__ import annotations

import re
from pathlib import Path

GUIDE = Path(__file__).resolve().parent.parent / "docs" / "view.md"


def test_every_option_of_the_guide_exists() -> None:
    import inspect

    from egopose.commands.view import view

    named = set(re.findall(r"--([a-z]+)", GUIDE.read_text())) - {"report", "out"}
    assert named <= set(inspect.signature(view).parameters)
