"""Damaged files: whatever is cut, flipped, swapped or repeated, a reader succeeds or raises one EgoposeError."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import numpy as np
import pytest

import egopose
from egopose.errors import EgoposeError
from tests.io_cases import EXAMPLES, OPTIONS

MUTATIONS = 200
TOKENS = (
    b"NaN", b"-1", b"1e999", b"null", b"{}", b"[]", b'""', b"true", b"\x00", b"99999999999999999999", b",", b":", b"\n",
    b'"', b"[", b"}", b"\xff\xfe", b"0", b"-0.0", b"abc",
)  # fmt: skip


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three damages of a file."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        if not out:
            break
        a = int(rng.integers(len(out)))
        b = min(len(out), a + int(rng.integers(1, 40)))
        kind = rng.integers(6)
        if kind == 0:
            del out[a:]
        elif kind == 1:
            del out[a:b]
        elif kind == 2:
            out[a] ^= 1 << int(rng.integers(8))
        elif kind == 3:
            out[a:b] = TOKENS[int(rng.integers(len(TOKENS)))]
        elif kind == 4:
            out[a:a] = out[a:b]
        else:
            out[a:b] = rng.bytes(b - a)
    return bytes(out)


def read(path: Path, name: str) -> str | None:
    """None when it was read, else the message of the refusal."""
    try:
        with warnings.catch_warnings():
            # notes are fine; numpy complaining about a computation is not
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", egopose.errors.EgoposeWarning)
            egopose.load(path, format=name, **OPTIONS.get(name, {}))
    except EgoposeError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_no_reader_fails_in_another_way(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(17)
    path = EXAMPLES[name](tmp_path)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    refused = 0
    for _ in range(MUTATIONS):
        file = files[int(rng.integers(len(files)))]
        original = file.read_bytes()
        file.write_bytes(mutate(original, rng))
        message = read(path, name)
        file.write_bytes(original)
        if message is not None:
            refused += 1
            assert "\n" not in message, message
            assert len(message) < 2000
    assert read(path, name) is None
    # most damage is noticed, and some files survive it: both paths were run
    assert refused > MUTATIONS // 20


def test_detection_of_damaged_files_raises_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(23)
    for name, build in EXAMPLES.items():
        folder = tmp_path / name
        folder.mkdir()
        path = build(folder)
        if path.is_dir():
            continue
        data = path.read_bytes()
        for _ in range(20):
            path.write_bytes(mutate(data, rng))
            with contextlib.suppress(EgoposeError):
                assert egopose.io.detect(path).name in EXAMPLES
