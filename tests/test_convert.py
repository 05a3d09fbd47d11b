"""``egopose convert``: what it writes, and one line and status 1 when it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import egopose
from egopose.cli import main
from egopose.commands.convert import parse_options, run_convert
from egopose.errors import EgoposeError
from egopose.skeleton import BODY17
from tests.io_cases import EXAMPLES, FRAMES, body_pose


def test_run_convert(tmp_path: Path) -> None:
    source = EXAMPLES["native"](tmp_path)
    result = run_convert(source, tmp_path / "y.trc", write_options={"unit": "mm"}, skeleton="body12")
    assert result["format"] == "native"
    assert result["bytes"] == (tmp_path / "y.trc").stat().st_size
    back = egopose.load(tmp_path / "y.trc")
    np.testing.assert_array_equal(back.xyz, body_pose().select(joints=back.skeleton.joints).xyz)
    assert back.n_joints == 12


def test_calibration_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = EXAMPLES["panoptic-json"](tmp_path)
    assert main(["convert", str(source), str(tmp_path / "rig.toml"), "--option", "type=hd", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["format"] == "panoptic-json"
    assert egopose.load(tmp_path / "rig.toml").names == ["cam01", "cam02", "cam03"]


def test_takes_and_options_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = EXAMPLES["ego-exo4d-body"](tmp_path)
    assert main(["convert", str(source), str(tmp_path / "one.csv"), "--option", "take=u2", "fps=10"]) == 0
    assert "3 frames" in capsys.readouterr().out
    np.testing.assert_allclose(egopose.load(tmp_path / "one.csv").times_s, FRAMES[:3] / 10)
    # both takes at once into another file of takes
    target = str(tmp_path / "again.json")
    assert main(["convert", str(source), target, "--to", "ego-exo4d-body", "--write-option", "missing=nan"]) == 0
    assert list(egopose.load(target)) == ["u1", "u2"]


def test_refusals_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = EXAMPLES["native"](tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    for arguments, message in (
        ([str(source)], "give a source and a target"),
        ([str(tmp_path / "no"), "x.csv"], "there is no such file"),
        ([str(source), str(tmp_path / "x.toml")], "no format writes a PoseSequence"),
        ([str(source), str(tmp_path / "x.csv"), "--option", "fps"], "expected NAME=VALUE"),
        ([str(source), str(tmp_path / "x.csv"), "--option", "speed=3"], "has no option 'speed'"),
        ([str(source), str(tmp_path / "x.csv"), "--skeleton", "cat"], "no skeleton is named 'cat'"),
    ):
        assert main(["convert", *arguments]) == 1
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["formats"]
    assert {row["name"] for row in rows} >= set(EXAMPLES)
    assert main(["convert", "--list"]) == 0
    assert "anipose-toml" in capsys.readouterr().out


def test_parse_options() -> None:
    assert parse_options(["a=3", "b=1.5", "c=true", "d=x=y", "e=", "f=[1, 2]", "g=2d"], "--option") == {
        "a": 3, "b": 1.5, "c": True, "d": "x=y", "e": "", "f": [1, 2], "g": "2d"
    }  # fmt: skip
    with pytest.raises(EgoposeError, match="'a' stands twice"):
        parse_options(["a=1", "a=2"], "--option")


def test_a_rig_has_no_joints(tmp_path: Path) -> None:
    with pytest.raises(EgoposeError, match="a Rig has no joints"):
        run_convert(EXAMPLES["native-rig"](tmp_path), tmp_path / "x.toml", skeleton=BODY17.name)
