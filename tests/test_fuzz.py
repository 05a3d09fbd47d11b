"""A few seconds of fuzzing over every reader, and the fuzzer itself: it finds what is wrong and survives what dies."""

from __future__ import annotations

import random
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import egopose
from egopose.errors import EgoposeWarning

pytest.importorskip("tools.fuzz", reason="the tools are not beside the tests")
# some targets damage files of extras
for extra in ("pyarrow", "onnx", "onnxruntime"):
    pytest.importorskip(extra)

from tools import fuzz_binary, fuzz_check, fuzz_mutate, fuzz_specials, fuzz_targets, fuzz_worker  # noqa: E402
from tools.fuzz_targets import Target  # noqa: E402

TARGETS = fuzz_targets.all_targets()


def blind(data: bytes, size: int) -> bytes:
    return fuzz_mutate.mutate_bytes(data, random.Random(len(data)))[:size]


def run(reader: fuzz_worker.Reader, inputs: list[bytes]) -> Counter[str]:
    """Kinds of verdict, of inputs judged as the worker does."""
    counts: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", EgoposeWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        for data in inputs:
            kind, where, message, trace = reader.judge(data)
            assert kind in ("accepted", "refused"), f"{reader.target.name}: {where}: {message}\n{trace}"
            counts[kind] += 1
    return counts


def test_every_format_has_a_target() -> None:
    assert {entry.name for entry in egopose.io.formats() if entry.read is not None} <= set(TARGETS)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_little_damage_of_everything(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOPOSE_CACHE", str(tmp_path / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EgoposeWarning)
        reader = fuzz_worker.Reader(name, tmp_path / "work", limit=False)
    rng = random.Random(5)
    only = next(iter(reader.files)) if reader.single else None
    count = 12 if len(reader.seed) < 100_000 else 3
    inputs = [fuzz_mutate.mutate_blob(reader.seed, 200_000, rng, blind, only) for _ in range(count)]
    counts = run(reader, [reader.seed, *inputs])
    assert counts.total() == count + 1


@pytest.mark.parametrize("name", ["c3d", "native-trajectory", "config-yaml", "shard-manifest", "exo-body-file", "trc"])
def test_hostile_files_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_specials, "BOMB_BYTES", 300_000_000)
    fuzz_specials._zeros.cache_clear()
    reader = fuzz_worker.Reader(name, tmp_path / "work", limit=False)
    counts = run(reader, list(fuzz_specials.specials(reader.seed, reader.files, reader.single)))
    fuzz_specials._zeros.cache_clear()
    assert counts["refused"] > 10


# damage


def test_blobs_of_files_come_back_and_never_leave_their_folder() -> None:
    files = {"a.json": b"1", "deep/er/b.npz": bytes(5)}
    assert fuzz_mutate.unpack(fuzz_mutate.pack(files)) == files
    for name in ("../x", "/x", "a//b", "a/../b", "", "a\x00"):
        assert fuzz_mutate.unpack(fuzz_mutate.pack({name: b""})) is None
    assert fuzz_mutate.unpack(b"FUZZ\xff\xff") is None


def test_damage_is_repeatable_and_changes_something(tmp_path: Path) -> None:
    for name in ("c3d", "native", "native-rig", "pose-csv", "opencv", "stereo-dat", "parquet"):
        reader = fuzz_worker.Reader(name, tmp_path / name, limit=False)
        only = next(iter(reader.files)) if reader.single else None
        made = [
            [fuzz_mutate.mutate_blob(reader.seed, 99_999, rng, blind, only) for _ in range(20)]
            for rng in (random.Random(3), random.Random(3))
        ]
        assert made[0] == made[1]
        assert sum(data != reader.seed for data in made[0]) > 12
        assert len(set(made[0])) > 10


def test_damage_behind_the_hash_reaches_the_reader(tmp_path: Path) -> None:
    reader = fuzz_worker.Reader("native", tmp_path / "n", limit=False)
    rng = random.Random(2)
    messages = Counter(reader.judge(fuzz_binary.mutate_zip(reader.seed, rng))[2].partition(": ")[2] for _ in range(150))
    hashed = sum(count for text, count in messages.items() if "SHA-256" in text)
    assert hashed < 60
    assert len(messages) > 15


def test_a_bomb_is_a_zip_file_that_would_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import zipfile

    monkeypatch.setattr(fuzz_specials, "BOMB_BYTES", 40_000_000)
    fuzz_specials._zeros.cache_clear()
    data = fuzz_specials.bomb("a.npy", (("b.txt", b"hello"),))
    fuzz_specials._zeros.cache_clear()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.read("b.txt") == b"hello"
        assert archive.getinfo("a.npy").file_size > 40_000_000
        assert np.load(io.BytesIO(archive.read("a.npy"))).shape == (5_000_000,)
    assert len(data) < 100_000


# checks


def test_checks_refuse_what_types_do_not() -> None:
    pose = egopose.PoseSequence(egopose.BODY17, np.arange(3), np.arange(3.0), np.zeros((3, 17, 3)))
    fuzz_check.check([{"a": pose}])
    for name, value in (("frames", np.array([2, 1, 3])), ("times_s", np.array([0, np.nan, 1])), ("space", "mars")):
        object.__setattr__(pose, name, value)
        with pytest.raises(fuzz_check.WrongAcceptance):
            fuzz_check.check(pose)
    for T in (np.diag([1.0, 1, -1, 1]), np.eye(4) * 2, np.full((4, 4), np.nan)):
        with pytest.raises(fuzz_check.WrongAcceptance):
            fuzz_check.check_rigid(T)


def test_equality_is_by_value() -> None:
    a = {"x": np.array([1.0, np.nan]), "y": [1, float("nan")]}
    assert fuzz_check.same(a, {"x": np.array([1.0, np.nan]), "y": [1, float("nan")]})
    assert not fuzz_check.same(a, {"x": np.array([1.0, 2.0]), "y": [1, float("nan")]})
    assert not fuzz_check.same(np.zeros(2), np.zeros(2, np.float32))


def test_a_target_that_cannot_read_its_own_input_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"broken": Target("broken", TARGETS["trc"].build, lambda path: 1 / 0)}
    monkeypatch.setattr(fuzz_targets, "all_targets", lambda: broken)
    with pytest.raises(RuntimeError, match="is not read"):
        fuzz_worker.Reader("broken", tmp_path / "w", limit=False)


def test_the_channel_says_what_a_dead_worker_was_doing(tmp_path: Path) -> None:
    channel = fuzz_worker.Channel(tmp_path / "c", create=True)
    channel.inputs = 7
    before = time.monotonic()
    channel.begin(b"payload")
    other = fuzz_worker.Channel(tmp_path / "c")
    assert other.payload() == b"payload"
    assert other.look()["inputs"] == 7
    assert before <= other.look()["wall"] <= time.monotonic()
    channel.end()
    assert other.payload() == b""
