"""Ego-Exo4D files through the scanner and through the general parser: the same arrays; the kept columns."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egopose.errors import EgoposeError
from egopose.files import parse_json
from egopose.io import columnar_cache
from egopose.io.ego_exo4d_annotation_arrays import (
    AnnotationArrays,
    read_annotation_arrays,
    scan_annotation,
    walk_annotation,
)
from egopose.io.ego_exo4d_files import read_body_file, read_hand_file, walk_body, walk_hand
from egopose.io.ego_exo4d_scan import scan_body, scan_hand
from egopose.io.json_table import Unusual
from tests.test_json_scan import NUMBERS, scanner_of


def points(n: int) -> st.SearchStrategy[Any]:
    cell = st.floats(-5, 5) | st.just(math.nan)
    good = st.tuples(*[st.tuples(cell, cell, cell).map(list)] * n).map(list)
    odd = st.sampled_from(
        [
            [],
            None,
            [[1, 2, 3]] * (n - 1),
            [[1, 2, 3]] * (n + 1),
            [[1, 2]] * n,
            [[1, 2, None]] * n,
            {},
            "x",
            3,
            [[1, 2, True]] * n,
            [[1, 2, 3, 4]] * n,
            [[]] * n,
        ]
    )
    return st.integers(0, 4).flatmap(lambda k: odd if k == 0 else good)


FRAME_KEYS = st.one_of(st.integers(0, 500).map(str), st.sampled_from(["007", "x", "-1", "", "1e3", "metadata"]))


def assert_takes_equal(a: Any, b: Any) -> None:
    assert list(a) == list(b)
    for uid in a:
        for name in a[uid].__dataclass_fields__:
            x, y = getattr(a[uid], name), getattr(b[uid], name)
            if isinstance(x, np.ndarray):
                assert x.shape == y.shape
                assert x.dtype == y.dtype
                assert np.array_equal(x, y, equal_nan=x.dtype.kind == "f"), (uid, name)
            else:
                assert x == y, (uid, name)


def compare(document: Any, scan: Any, walk: Any, equal: Any) -> str:
    """Scan and walk the same text: the same result, or the scanner handed over."""
    text = json.dumps(document).encode()
    try:
        got = scan(scanner_of(text), "f")
    except Unusual:
        return "handed over"
    equal(got, walk(parse_json(text, "f"), "f"))
    return "same"


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.fixed_dictionaries(
            {"take_name": st.just("takes/x_bike"), "body": st.dictionaries(FRAME_KEYS, points(17), max_size=4)}
        ),
        max_size=3,
    )
)
def test_body_files(document: Any) -> None:
    compare(document, scan_body, walk_body, assert_takes_equal)


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.dictionaries(
            FRAME_KEYS,
            st.fixed_dictionaries(
                {"left_hand_3d": points(21)},
                optional={
                    "right_hand_3d": points(21),
                    "left_hand_valid_3d": st.lists(st.booleans(), min_size=21, max_size=21)
                    | st.just([1] * 21)
                    | st.just([]),
                    "left_hand_bbox": st.sampled_from([[], [1, 2, 3, 4.5], [1, 2], None]),
                    "metadata": st.just({"take_name": "n", "frame_number": 3}) | st.none(),
                },
            ),
            max_size=4,
        ),
        max_size=3,
    )
)
def test_hand_files(document: Any) -> None:
    compare(document, scan_hand, walk_hand, assert_takes_equal)


POINT = st.fixed_dictionaries(
    {}, optional={"x": NUMBERS, "y": NUMBERS | st.none(), "z": NUMBERS, "num_views_for_3d": st.integers(2, 5)}
)
CLICK = st.fixed_dictionaries(
    {}, optional={"x": NUMBERS, "y": NUMBERS, "placement": st.sampled_from(["manual", "auto", "manually", "m", None])}
)
JOINTS = st.sampled_from(["nose", "left-eye", "right-hip"])
PERSON = st.fixed_dictionaries(
    {},
    optional={
        "annotation3D": st.dictionaries(JOINTS, POINT, max_size=3) | st.sampled_from([None, [], {}, 3, [1], "x"]),
        "annotation2D": st.dictionaries(
            st.sampled_from(["cam01", "cam02"]), st.dictionaries(JOINTS, CLICK | st.just([]), max_size=3), max_size=2
        ),
        "metadata": st.just({"a": [1, 2]}),
    },
)


def assert_annotations_equal(a: AnnotationArrays, b: AnnotationArrays) -> None:
    assert_takes_equal({"u": a}, {"u": b})


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(FRAME_KEYS, st.lists(PERSON, max_size=2) | st.sampled_from([{}, 3, None]), max_size=4))
def test_annotation_files(document: Any) -> None:
    text = json.dumps(document).encode()
    try:
        got = scan_annotation(scanner_of(text), "f")
    except Unusual:
        return
    assert_annotations_equal(got, walk_annotation(json.loads(text), "f"))


def annotation(n: int = 50) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    names = ("nose", "left-eye", "right-eye", "left-wrist")
    out: dict[str, Any] = {}
    for t in rng.permutation(n):
        three = {
            j: dict(zip("xyz", rng.normal(size=3).tolist()), num_views_for_3d=3) for j in names if rng.random() < 0.9
        }
        two = {
            c: {j: {"x": 100 * rng.random(), "y": 1.0, "placement": "auto"} for j in three} for c in ("cam01", "gp02")
        }
        out[str(3 * t)] = [{"annotation3D": three, "annotation2D": two}] if rng.random() < 0.9 else []
    return out


def test_ordinary_files_do_go_through_the_scanner(tmp_path: Path) -> None:
    from tests.test_protocols_body import random_files as bodies
    from tests.test_protocols_hand import random_files as hands

    for document, scan, walk in (
        (bodies(1)[1], scan_body, walk_body),
        (bodies(1)[0], scan_body, walk_body),
        (hands(1)[1], scan_hand, walk_hand),
        (hands(1)[0], scan_hand, walk_hand),
    ):
        assert compare(document, scan, walk, assert_takes_equal) == "same"
    assert compare(annotation(), scan_annotation, walk_annotation, assert_annotations_equal) == "same"
    path = tmp_path / "a.json"
    path.write_text(json.dumps(annotation()))
    got = read_annotation_arrays(path, scanner=True)
    assert got.views == ("cam01", "gp02")
    assert (np.diff(got.frames) > 0).all()
    first = int(got.frames[7])
    want = annotation()[str(first)][0]["annotation3D"]["nose"]
    assert got.xyz[7, got.joints.index("nose")].tolist() == [want["x"], want["y"], want["z"]]


def test_forced_readers_agree_on_odd_files(tmp_path: Path) -> None:
    """A file outside the plain subset (escapes, other letters) is read all the same."""
    path = tmp_path / "b.json"
    body = {"ü": {"take_name": "takes/\u00e9_bike", "body": {"0": [[0.1, 0.2, 0.3]] * 17}}}
    path.write_text(json.dumps(body), encoding="utf-8")
    assert_takes_equal(read_body_file(path, scanner=True), read_body_file(path, scanner=False))
    path.write_text('{"u": {"0": {"left_hand_3d": [[1, 2, 3')
    for scanner in (True, False):
        with pytest.raises(EgoposeError, match=r"b\.json: not valid JSON at line 1"):
            read_hand_file(path, scanner=scanner)


def test_columns_are_kept_and_staleness_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOPOSE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "a.json"
    document = annotation()
    path.write_text(json.dumps(document))
    fresh = read_annotation_arrays(path, cache=False)
    assert not (tmp_path / "cache").exists()
    assert_annotations_equal(read_annotation_arrays(path, cache=True), fresh)
    copies = list((tmp_path / "cache" / "columns").iterdir())
    assert len(copies) == 1
    # the copy is what is read now: the text is not opened again
    monkeypatch.setattr("egopose.io.ego_exo4d_annotation_arrays.read_with", None)
    assert_annotations_equal(read_annotation_arrays(path, cache=True), fresh)
    # another time, the same content: hashed and still good
    os.utime(path, ns=(1, 1))
    assert_annotations_equal(read_annotation_arrays(path, cache=True), fresh)
    monkeypatch.undo()
    monkeypatch.setenv("EGOPOSE_CACHE", str(tmp_path / "cache"))
    # the same size, another content
    text = path.read_text()
    at = text.index('"x": ') + 7
    digit = "1" if text[at] != "1" else "2"
    path.write_text(text[:at] + digit + text[at + 1 :])
    changed = read_annotation_arrays(path, cache=True)
    assert not np.array_equal(changed.uv_px, fresh.uv_px, equal_nan=True) or not np.array_equal(
        changed.xyz, fresh.xyz, equal_nan=True
    )
    # a damaged copy is built again
    copies[0].write_bytes(copies[0].read_bytes()[:100])
    assert_annotations_equal(read_annotation_arrays(path, cache=True), changed)
    with pytest.raises(EgoposeError, match="cannot read"):
        columnar_cache.cached(tmp_path / "none.json", "x", dict, dict)


def test_an_unwritable_cache_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EGOPOSE_CACHE", str(tmp_path / "file"))
    path = tmp_path / "a.json"
    path.write_text(json.dumps(annotation()))
    assert read_annotation_arrays(path, cache=True).frames.size


def test_kept_takes_are_the_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.test_protocols_body import random_files as bodies
    from tests.test_protocols_hand import random_files as hands

    monkeypatch.setenv("EGOPOSE_CACHE", str(tmp_path / "cache"))
    body, hand = bodies(2)[0], hands(2)[1]
    body["uid0"]["body"]["3000"] = [[1, 2]]
    body["uid0"]["body"]["odd"] = []
    hand["t0"]["3000"] = {"left_hand_3d": [[1, 2, 3]]}
    for name, document, read in (("b", body, read_body_file), ("h", hand, read_hand_file), ("e", {}, read_body_file)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document))
        fresh = read(path, cache=False)
        for _ in range(2):
            assert_takes_equal(read(path, cache=True), fresh)
    assert len(list((tmp_path / "cache" / "columns").iterdir())) == 3
