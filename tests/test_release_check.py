"""The release check refuses what it should: licences, libraries inside wheels, misplaced packages, empty audits."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "tools" / "release_check.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the tools do not travel with an installed package")


@pytest.fixture(scope="module")
def check() -> ModuleType:
    pytest.importorskip("packaging")
    spec = importlib.util.spec_from_file_location("release_check", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["release_check"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("licence", "origin", "accepted"),
    [
        ("MIT", "base", True),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", "base", True),
        ("GPL-3.0-only OR MIT", "base", True),
        ("GPL-3.0-only AND MIT", "base", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", "view", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", "base", False),
        ("(GPL-2.0-only OR LGPL-3.0) AND MIT", "view", False),
        ("GNU Lesser General Public License v2 or later (LGPLv2+)", "mocap", False),
        ("unknown", "view", False),
        ("", "base", False),
    ],
)
def test_licences_are_judged_by_their_terms(check: ModuleType, licence: str, origin: str, accepted: bool) -> None:
    assert (check.complaint(check.Package("thing", "1", licence, origin)) is None) == accepted


def test_copyleft_inside_a_wheel_must_be_known(check: ModuleType) -> None:
    bundled = (("GPL", "libx264"),)
    assert "its wheel carries libx264 (GPL)" in check.complaint(check.Package("thing", "1", "MIT", "base", bundled))
    assert check.complaint(check.Package("av", "1", "BSD-3-Clause", "base", bundled)) is None


def test_a_restricted_package_in_another_extra_is_noticed(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check.misplaced() == []
    stated = check.project()
    stated["view"] = [*stated["view"], "smplx>=0.1"]
    monkeypatch.setattr(check, "project", lambda: stated)
    assert check.misplaced() == ["smplx belongs to [smplx] alone and comes with [view]"]


def test_this_environment_passes_and_the_report_names_every_package(check: ModuleType, tmp_path: Path) -> None:
    if check.tree()[1]:
        pytest.skip("the base install is not complete here")
    assert check.main(["--licences-only", "--out", str(tmp_path)]) == 0
    report = (tmp_path / "licences.md").read_text()
    for name in ("numpy", "torch", "numba", "scipy", "av"):
        assert f"| {name} |" in report


def fake_tool(folder: Path, content: str) -> str:
    program = folder / "pip-audit"
    program.write_text(f"#!{sys.executable}\nimport sys\nout = sys.argv[sys.argv.index('-o') + 1]\n{content}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("required", [False, True])
def test_an_audit_that_looked_nothing_up_is_not_clean(
    check: ModuleType, tmp_path: Path, required: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    skipped = json.dumps({"dependencies": [{"name": "numpy", "skip_reason": "not found"}]})
    cases = {
        f"open(out, 'w').write({skipped!r})": "not checked",
        "sys.exit('requests.exceptions.ConnectionError: no route')": "no network, not checked",
    }
    for content, said in cases.items():
        assert check.check_vulnerabilities(tmp_path, fake_tool(tmp_path, content), required) is not required
        assert said in capsys.readouterr().out
    assert check.check_vulnerabilities(tmp_path, None, required) is not required


def test_a_known_vulnerability_fails(check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {"dependencies": [{"name": "x", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}]}
    tool = fake_tool(tmp_path, f"open(out, 'w').write({json.dumps(found)!r}); sys.exit(1)")
    assert not check.check_vulnerabilities(tmp_path, tool, False)
    assert "x 1: PYSEC-1, fixed in 2" in capsys.readouterr().out
    assert not check.check_vulnerabilities(tmp_path, fake_tool(tmp_path, "sys.exit('broken')"), False)


ANSWERS = {
    "none": ("sys.exit('requests.exceptions.ConnectionError: HTTP 404')", 0, "VULNERABILITIES WERE NOT CHECKED"),
    "all skipped": ("answer([{'name': 'numpy', 'skip_reason': 'not found'}])", 0, "VULNERABILITIES WERE NOT CHECKED"),
    "clean": ("answer([{'name': 'numpy', 'version': '2', 'vulns': []}])", 0, "the release check passes\n"),
    "known": ("answer([{'name': 'numpy', 'version': '2', 'vulns': [{'id': 'PYSEC-1', 'fix_versions': ['3']}]}])",
              1, "numpy 2: PYSEC-1, fixed in 3"),
}  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_whole_check_by_what_the_service_answers(
    check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    content, status, said = ANSWERS[answer]
    program = "import json\ndef answer(found):\n    json.dump({'dependencies': found}, open(out, 'w'))\n" + content
    fake_tool(tmp_path, program)
    monkeypatch.setattr(check, "check_licences", lambda out: True)
    monkeypatch.setattr(check, "write_bill", lambda out, tool: True)
    # of an earlier run, when the service answered
    (tmp_path / "audit.json").write_text("{}")
    words = ["--tools", str(tmp_path), "--out", str(tmp_path)]
    assert check.main(words) == status
    assert said in capsys.readouterr().out
    assert (tmp_path / "audit.json").exists() == (answer in ("clean", "known"))
    # where the answer is asked for, none is a failure
    assert check.main([*words, "--require-audit"]) == (0 if answer == "clean" else 1)
    assert ("the release check FAILS" in capsys.readouterr().out) == (answer != "clean")
