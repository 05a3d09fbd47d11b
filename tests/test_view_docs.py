"""The examples of the guide run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parent.parent / "docs" / "view.md"


def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S)
    assert len(blocks) == 2
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), scope)
    assert {p.name for p in tmp_path.iterdir()} == {"take.html", "plots", "report.html"}


def test_every_option_of_the_guide_exists() -> None:
    import inspect

    from egopose.commands.view import view

    named = set(re.findall(r"--([a-z]+)", GUIDE.read_text())) - {"report", "out"}
    assert named <= set(inspect.signature(view).parameters)
