"""The batched parser equals the reader of one file, whatever the files hold; the overview; the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from egopose.cli import main
from egopose.ego_exo4d.index_batch import arrange, read_files, read_texts
from egopose.ego_exo4d.standin_annotations import annotation
from egopose.ego_exo4d.standin_world import build_world
from egopose.files import parse_json
from egopose.io.ego_exo4d_annotation_arrays import walk_annotation
from egopose.skeleton import BODY17, HANDS42


def documents(kind: str) -> list[dict]:
    world = build_world(1, 5, 2.0)
    frames = np.arange(0, 60, 3)
    result = [annotation(world, kind, "manual", frames), annotation(world, kind, "automatic", frames + 1)]
    one = json.loads(json.dumps(result[0]))
    # cameras are named gp01 at some sites; one take lacks a camera; one has metadata; one has empty entries only
    result.append(json.loads(json.dumps(one).replace('"cam0', '"gp0')))
    for value in one.values():
        for entry in value:
            entry["annotation2D"].pop("cam01", None)
    result.append(one)
    result.append({**result[0], "metadata": {"take_uid": "x", "deep": {"cam01": [1, 2, {"x": 3}]}}})
    result.append({"5": [], "3": [{"annotation3D": {}, "annotation2D": {}}], "9": [{}]})
    # two people in a frame
    result.append({k: (v * 2 if i == 1 else v) for i, (k, v) in enumerate(result[1].items())})
    return result


UNUSUAL = [
    # not in the plain subset, still fine
    '{"1": [{"annotation3D": {"nose": {"x": 1, "y": 2, "z": null}}, "annotation2D": {"cam\\u0030": {}}}]}',
    # refused: unknown joint, a text as a number, a frame twice, not a list, broken, empty
    '{"1": [{"annotation3D": {"tail": {"x": 1, "y": 2, "z": 3}}}]}',
    '{"1": [{"annotation3D": {"nose": {"x": "1", "y": 2, "z": 3}}}]}',
    '{"1": [], "01": []}',
    '{"1": {"annotation3D": {}}}',
    '{"1": [',
    "",
    "[]",
    "{}",
]


def same(parsed, text: bytes, skeleton) -> None:
    arrays = walk_annotation(parse_json(text, "f"), "f")
    expected = arrange(arrays, skeleton, "f")
    assert parsed.error is None
    assert parsed.views == arrays.views
    assert parsed.crowded == arrays.crowded
    assert set(parsed.columns) == set(expected)
    for name, values in expected.items():
        assert parsed.columns[name].dtype == values.dtype
        np.testing.assert_array_equal(parsed.columns[name], values, err_msg=name)


@pytest.mark.parametrize("kind", ["body", "hand"])
def test_batch_equals_the_reader_of_one_file(kind: str) -> None:
    skeleton = BODY17 if kind == "body" else HANDS42
    texts = [json.dumps(d).encode() for d in documents(kind)]
    texts[1] = json.dumps(documents(kind)[1], indent=1).encode() + b"\n  "
    for parsed, text in zip(read_texts(texts, ["f"] * len(texts), skeleton), texts, strict=True):
        same(parsed, text, skeleton)


@pytest.mark.parametrize("unusual", UNUSUAL)
def test_one_unusual_file_does_not_spoil_the_others(unusual: str) -> None:
    texts = [json.dumps(d).encode() for d in documents("body")]
    texts.insert(2, unusual.encode())
    parsed = read_texts(texts, ["f"] * len(texts), BODY17)
    for i, (one, text) in enumerate(zip(parsed, texts, strict=True)):
        if i != 2:
            same(one, text, BODY17)
    if unusual == UNUSUAL[0]:
        same(parsed[2], texts[2], BODY17)
    else:
        assert parsed[2].columns is None
        assert parsed[2].error
        assert "\n" not in parsed[2].error


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    texts = [json.dumps(d).encode() for d in documents("body")[:3]]
    paths = [tmp_path / f"{i}.json" for i in range(5)]
    for path, text in zip((paths[0], paths[2], paths[4]), texts):
        path.write_bytes(text)
    paths[3].mkdir()
    result = read_files(paths, BODY17)
    for i, text in zip((0, 2, 4), texts):
        same(result[i][1], text, BODY17)
        assert result[i][0].st_size == len(text)
    assert "1.json: cannot read" in result[1][1].error
    assert "3.json: cannot read" in result[3][1].error
    assert [one.columns is None for _, one in result] == [False, True, False, True, False]


def test_hands_in_a_body_folder_are_refused() -> None:
    text = json.dumps(documents("hand")[0]).encode()
    (parsed,) = read_texts([text], ["f"], BODY17)
    assert "no body joint" in parsed.error


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOPOSE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "data"
    assert main(["synth", "ego-exo4d", str(root), "--takes", "3", "--seconds", "2", "--no-videos", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [take["split"] for take in made["takes"]] == ["train", "val", "test"]
    assert main(["synth", "ego-exo4d", str(root)]) == 1
    assert "not empty" in capsys.readouterr().err
    assert main(["info", str(root), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    train, val, test = result["per_take"]
    assert result["splits"] == {"train": 1, "val": 1, "test": 1}
    assert result["annotated"] == {"body_manual": 2, "body_automatic": 2, "hand_manual": 2, "hand_automatic": 2}
    assert result["missing"] == {"videos": {"takes": 3, "download": "egoexo --parts takes (or downscaled_takes/448)"}}
    assert train["annotations"]["body_manual"]["step"] == 3
    assert train["annotations"]["hand_manual"]["hands"] > 20
    assert train["head"]["gaps"] == [[20, 20], [30, 32]]
    assert train["exo_cameras"]["cam06"]["problem"] == "no calibration"
    assert test["annotations"] == {}
    assert val["missing"] == ["videos"]
    assert main(["info", str(root), "--takes", "standin_piano_01_2"]) == 0
    text = capsys.readouterr().out
    assert "every 3" in text
    assert "without: 20, 30-32" in text
    assert "cam04 portrait" in text
    # what is taken away is named, with the part that brings it back
    (root / "takes" / "standin_piano_01_2" / "trajectory" / "gopro_calibs.csv").unlink()
    next((root / "annotations" / "ego_pose" / "val" / "hand" / "annotation").iterdir()).write_text("{")
    for path in root.glob("captures/*/timesync.csv"):
        path.unlink()
    assert main(["info", str(root), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["missing"]["gopro_calibs.csv"] == {"takes": 1, "download": "egoexo --parts take_trajectory"}
    assert result["missing"]["timesync.csv"]["takes"] == 3
    assert "JSON" in result["per_take"][1]["problems"][0]
    assert main(["info", str(tmp_path)]) == 1
    assert "takes.json" in capsys.readouterr().err
