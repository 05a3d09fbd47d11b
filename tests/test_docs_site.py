"""The site builds strictly and without a network, and holds every public name, metric, model card and page."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PUBLIC = (
    "egopose",
    "egopose.metrics",
    "egopose.triangulate",
    "egopose.io",
    "egopose.ego_exo4d",
    "egopose.metrics.protocols",
)
SUITES = ("physical", "calibration", "compat")
"""Modules of metrics whose every public function has a formula."""

pytest.importorskip("sphinx", reason="the site needs the extra docs")
pytest.importorskip("myst_parser", reason="the site needs the extra docs")
pytestmark = [
    pytest.mark.timeout(2400),
    pytest.mark.skipif("EGOPOSE_TESTING_WHEEL" in os.environ, reason="the site is built from a checkout"),
]


def build(docs: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build strictly, as ``make docs`` does; a request to the network would fail at once."""
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "-d", f"{out}.tmp", docs, out]
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, env={**os.environ, **nowhere})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "html"
    done = build(DOCS, out)
    assert done.returncode == 0, done.stderr
    return out


def test_the_site_builds_and_every_page_is_on_it(site: Path) -> None:
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS)).with_suffix(".html").is_file(), page


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert not re.search(r"""<(script|img|iframe|source)\b[^>]*src=["'](https?:)?//""", text), page
        assert not re.search(r"""<link\b[^>]*rel="(stylesheet|preload)"[^>]*href=["'](https?:)?//""", text), page


def test_every_public_name_is_described(site: Path) -> None:
    from sphinx.util.inventory import InventoryFile

    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    described = {name for role in inventory.data if role.startswith("py:") for name in inventory.data[role]}
    last = {name.rsplit(".", 1)[-1] for name in described}
    for module in PUBLIC:
        place = importlib.import_module(module)
        for name in place.__all__:
            table = isinstance(getattr(place, name), (dict, str))
            assert name in last or table, f"{module}.{name} is on no page of docs/api"


def test_formulas_are_drawn(site: Path) -> None:
    text = (site / "formulas.html").read_text()
    assert text.count("<math") > 60
    assert "$$" not in text


FAULTS = {
    "nowhere.md": "[x](nowhere.md)",
    "no-such-heading": "[x](#no-such-heading)",
    "none.png": "![x](images/none.png)",
    "no_such_metric": "```{eval-rst}\n:func:`egopose.metrics.no_such_metric`\n```",
    "no_such_function": "```{eval-rst}\n.. autofunction:: egopose.metrics.no_such_function\n```",
    "lost.md": "",
}
"""What the builder must name, and the text that brings it about."""


def test_faults_fail_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("conf.py", "site_parts.py"):
        shutil.copy(DOCS / name, docs)
    (docs / "index.md").write_text("# Page\n")
    assert build(docs, tmp_path / "good").returncode == 0
    (docs / "lost.md").write_text("# Outside the navigation\n")
    (docs / "index.md").write_text("# Page\n\n" + "\n\n".join(FAULTS.values()) + "\n")
    done = build(docs, tmp_path / "bad")
    assert done.returncode != 0
    assert [name for name in FAULTS if name not in done.stderr] == []


def metric_names() -> list[str]:
    """Every public metric: functions of the package, of its suites, the official protocols and the fused pass."""
    import egopose.metrics
    from egopose.metrics import accumulate, compare, protocols

    names = [*egopose.metrics.__all__, *accumulate.METRICS, "bootstrap", "sign_flip", compare.compare.__name__]
    for suite in SUITES:
        module = importlib.import_module(f"egopose.metrics.{suite}")
        functions = inspect.getmembers(module, inspect.isfunction)
        names += [n for n, f in functions if f.__module__ == module.__name__ and not n.startswith("_")]
    names += [name for name in protocols.__all__ if name.startswith("evaluate_")]
    return sorted(set(names))


def test_every_metric_has_a_formula_and_every_formula_a_metric() -> None:
    parts = re.split(r"^### `(\w+)`$", (DOCS / "formulas.md").read_text(), flags=re.M)
    formulas = dict(zip(parts[1::2], parts[2::2]))
    assert sorted(set(formulas) - {"Accumulator"}) == metric_names()
    for name, text in formulas.items():
        assert re.search(r"^\$\$.+\$\$$", text, re.M), f"{name} has no formula"


def test_every_model_card_is_on_the_site() -> None:
    cards = {path.name for path in (ROOT / "egopose/weights").glob("*.md")}
    assert cards == {path.name for path in (DOCS / "models").glob("*.md")}
    for name in cards:
        assert f"../../egopose/weights/{name}" in (DOCS / "models" / name).read_text()


def test_links_of_the_readme_lead_somewhere() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text()):
            assert link.startswith("https://") or (ROOT / link).exists(), f"{page}: {link}"
