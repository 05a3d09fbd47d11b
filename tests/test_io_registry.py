"""The registry: every format is found by its content, ambiguity and nonsense are refused in one line."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import egopose
import egopose.io as eio
from egopose.errors import EgoposeError, EgoposeWarning
from egopose.io.registry import REGISTRY, reader
from tests.io_cases import EXAMPLES, OPTIONS, WARNS, body_pose, ring


def test_every_readable_format_has_an_example() -> None:
    assert set(EXAMPLES) == {entry.name for entry in eio.formats() if entry.read is not None}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_content_alone_names_the_format(name: str, tmp_path: Path) -> None:
    path = EXAMPLES[name](tmp_path)
    assert eio.detect(path).name == name
    if path.is_file():
        # the suffix does not matter
        other = tmp_path / "renamed.bin"
        path.rename(other)
        if name != "opencv":
            assert eio.detect(other).name == name
        path = other if name != "opencv" else other.rename(path)
    context = pytest.warns(EgoposeWarning) if name in WARNS else contextlib.nullcontext()
    with context:
        loaded = egopose.load(path, **OPTIONS.get(name, {}))
    kinds = REGISTRY[name].kinds
    assert type(loaded).__name__ in kinds or isinstance(loaded, dict)


def test_two_formats_that_accept_are_both_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egopose.io.registry.REGISTRY", dict(REGISTRY))

    @reader("other-toml", kinds=("Rig",), suffixes=(".toml",), looks_for="x", description="x", sniff=lambda p, h: True)
    def read(path: Path) -> None:
        return None

    path = EXAMPLES["anipose-toml"](tmp_path)
    with pytest.raises(EgoposeError, match=r"'anipose-toml' and 'other-toml'; give format="):
        egopose.load(path)
    assert isinstance(egopose.load(path, format="anipose-toml"), egopose.Rig)


def test_unknown_content_says_what_was_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(EgoposeError, match=r"fits no known format; looked for .*pose-csv \(the columns frame, joint"):
        egopose.load(path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(EgoposeError, match=r"content of this folder fits no known format; looked for .*openpose"):
        egopose.load(tmp_path / "folder")


@pytest.mark.parametrize("suffix", [".json", ".csv", ".toml", ".npz", ".trc", ".c3d", ".parquet", ".yml", ".xml"])
def test_an_empty_file_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"empty{suffix}"
    path.write_bytes(b"")
    with pytest.raises(EgoposeError, match="the file is empty"):
        egopose.load(path)


@pytest.mark.parametrize("name", sorted(n for n in EXAMPLES if n not in ("openpose", "stereo-dat")))
def test_an_empty_file_of_a_stated_format_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(b"")
    with pytest.raises(EgoposeError, match="empty"):
        egopose.load(path, format=name)


def test_absent_file_and_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(EgoposeError, match="there is no such file"):
        egopose.load(tmp_path / "nothing.json")
    with pytest.raises(EgoposeError, match="there is no such file"):
        egopose.load(tmp_path / "nothing.json", format="trc")
    with pytest.raises(EgoposeError, match=r"no format is named 'trk'; there are: .*trc"):
        egopose.load(tmp_path, format="trk")


def test_options_are_checked(tmp_path: Path) -> None:
    path = EXAMPLES["caliscope-xy"](tmp_path)
    with pytest.raises(EgoposeError, match="has no option 'rate' when reading; it takes: fps, points"):
        egopose.load(path, rate=3)
    with pytest.raises(EgoposeError, match=r"option fps of format 'caliscope-xy' is 'abc'; expected float \| None"):
        egopose.load(path, fps="abc")
    assert egopose.load(path, fps=30).fps == 30
    assert egopose.load(path, fps=np.float64(29.97)).fps == pytest.approx(29.97)


def test_save_chooses_by_suffix_and_refuses_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(EgoposeError, match=r"writes a PoseSequence to the suffix '.toml'; there are: .*native"):
        egopose.save(body_pose(), tmp_path / "x.toml")
    with pytest.raises(EgoposeError, match="writes Rig; this is a PoseSequence"):
        egopose.save(body_pose(), tmp_path / "x.toml", format="anipose-toml")
    with pytest.raises(EgoposeError, match="'panoptic-json' can be read but not written"):
        egopose.save(ring(), tmp_path / "x.json", format="panoptic-json")
    with pytest.raises(EgoposeError, match="no format writes a int"):
        egopose.save(3, tmp_path / "x.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet", ".trc"])
def test_unwritable_place_leaves_nothing(suffix: str, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("x")
    with pytest.raises(EgoposeError, match="cannot write"):
        egopose.save(body_pose(), blocker / f"x{suffix}")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_importing_is_light() -> None:
    code = (
        "import sys, egopose.io; bad = {'torch','cv2','av','yaml','pyarrow','ezc3d','numba','scipy','viser'}"
        " & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
