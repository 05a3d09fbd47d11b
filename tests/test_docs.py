"""README and the pages: every code block runs as it stands, or says why it does not."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs_blocks import KEEP, ROOT, RUNNABLE, SHOWN, SMALLER, Runner, blocks, inside, matches, pages, untested
from tests.docs_samples import PREPARE, arrays, write_samples

pytestmark = pytest.mark.timeout(1800)

BLOCKS = {str(page.relative_to(ROOT)): blocks(page) for page in pages() if page.is_file()}
RUN = [name for name, found in BLOCKS.items() if any(block.language in RUNNABLE for block in found)]
MOST_UNTESTED = 19
"""Commands and Python blocks that may be exempt, over all pages. Lower it when one of them runs."""


def _tutorial(scope: dict[str, Any], folder: Path) -> None:
    # what the page says of the figures it prints
    assert 0 < scope["ours_mm"] < scope["theirs_mm"] < 10
    assert scope["hands"]["zip"] == "hands.zip"
    assert scope["body_submission"]["zip"] == "body.zip"
    assert (folder / "body.zip").stat().st_size > 0


def _quick_start(scope: dict[str, Any], folder: Path) -> None:
    assert 1.0 < scope["error_mm"] < 3.0
    for name in ("demo-out/exo/scene.html", "demo-out/ego/scene.html", "report.html", "scores.html", "joints.trc"):
        assert (folder / name).stat().st_size > 0, name
    listed = {
        line.split("`")[1] for line in (ROOT / "docs/quickstart.md").read_text().splitlines() if "| `demo" in line
    }
    assert all((folder / name).is_file() for name in listed)


AFTER: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "docs/tutorial.md": _tutorial,
    "docs/quickstart.md": _quick_start,
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder)
    return folder


@pytest.mark.parametrize("name", RUN)
def test_the_blocks_run(name: str, samples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    if name in AFTER:
        # a page for newcomers asks for nothing that it does not make
        folder.mkdir()
    else:
        shutil.copytree(samples, folder)
        PREPARE.get(name, lambda _: None)(folder)
    runner = Runner({} if name in AFTER else arrays(), smaller=name not in KEEP)
    with inside(folder):
        for block in BLOCKS[name]:
            if block.language in RUNNABLE:
                runner.run(block)
        AFTER.get(name, lambda *_: None)(runner.scope, folder)


def test_every_block_says_what_it_is() -> None:
    for found in BLOCKS.values():
        for block in found:
            kinds = (*RUNNABLE, *SHOWN)
            assert block.language in kinds or block.language.startswith("{"), f"{block.where}: {block.language!r}"
            # a command belongs to a block that is run
            assert block.language != "text" or not re.search(r"^\$? ?(egopose|make|pip) ", block.text, re.M), (
                block.where
            )
            if block.language == "yaml":
                yaml.safe_load(block.text)
            if block.language == "json":
                json.loads(block.text)


def test_few_blocks_are_exempt() -> None:
    exempt = [f"{b.where}: {what.strip()[:60]}" for found in BLOCKS.values() for b in found for what in untested(b)]
    assert len(exempt) <= MOST_UNTESTED, exempt


def test_smaller_settings_are_settings_of_a_page() -> None:
    text = "".join(block.text for found in BLOCKS.values() for block in found)
    assert all(asked in text for asked in SMALLER)


def test_outputs_are_compared() -> None:
    assert matches("a  b\n...\nend\n", "a b\n1\n2\nend")
    assert matches("left ... mm\n", "left 3.2 mm")
    assert not matches("left ... mm\n", "left 3.2 cm")
    assert not matches("a\n", "a\nb")
