"""Atomic writing and bounded reading."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from egopose import files
from egopose.errors import EgoposeError


def write_and_fail(path: Path, error: Exception) -> None:
    with files.atomic_write(path) as stream:
        stream.write(b"new")
        raise error


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="halfway"):
        write_and_fail(target, RuntimeError("halfway"))
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_what_a_killed_writer_left_goes_with_the_next_write_of_the_name(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from egopose import files\n"
        "with files.atomic_write(sys.argv[1]) as stream:\n"
        "    stream.write(b'half'); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    for name in ("a.npz", "b.npz"):
        done = subprocess.run([sys.executable, "-c", script, str(tmp_path / name)])
        assert done.returncode == -signal.SIGKILL
    # another writer of the same name that is still at work
    with files.atomic_write(tmp_path / "a.npz") as living:
        assert sorted(p.name[:3] for p in tmp_path.iterdir()) == [".a.", ".b."]
        with files.atomic_write(tmp_path / "a.npz") as stream:
            stream.write(b"first")
        assert len([p for p in tmp_path.iterdir() if p.name.startswith(".a.")]) == 1
        living.write(b"second")
    left = [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert [p.name[:3] for p in left] == [".b."]
    # from another machine: nobody here can say whether its writer lives
    other = left[0].rename(tmp_path / ("." + "b.npz.00000000-1-0a.tmp.npz"))
    with files.atomic_write(tmp_path / "b.npz") as stream:
        stream.write(b"whole")
    assert other.exists()
    assert (tmp_path / "a.npz").read_bytes() == b"second"


def test_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with pytest.raises(EgoposeError, match=r"a\.bin: cannot write \(No space left"):
        write_and_fail(target, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(EgoposeError, match="cannot write"):
        write_and_fail(blocker / "a.json", RuntimeError("never reached"))


def test_written_files_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        with files.atomic_write(tmp_path / "a", "w") as stream:
            stream.write("x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_json_reads_bare_nan_and_infinity(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"x": [NaN, Infinity, -Infinity, 1e3]}')
    x = files.read_json(path)["x"]
    assert math.isnan(x[0])
    assert x[1:] == [math.inf, -math.inf, 1000.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file is empty"),
        ("  \n", "file is empty"),
        ('{"a": [1, 2', "line 1, column"),
        ('{"a": 1, "a": 2}', "key 'a' stands twice"),
        ("[" * 100 + "]" * 100, "nested deeper than 64"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper|not valid JSON"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin1"), "not valid JSON"),
        ("1" * 5000, "number that cannot be read"),
    ],
)
def test_bad_json_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EgoposeError, match=message) as caught:
        files.read_json(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(EgoposeError, match="not UTF-8 text"):
        files.read_json(path)


def test_absent_folder_and_oversized_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EgoposeError, match="cannot read"):
        files.read_bytes(tmp_path / "none")
    with pytest.raises(EgoposeError, match="cannot read"):
        files.read_bytes(tmp_path)
    (tmp_path / "big").write_bytes(b"x" * 11)
    with pytest.raises(EgoposeError, match="11 bytes; at most 10"):
        files.read_bytes(tmp_path / "big", 10)


def test_nan_never_gets_into_strict_json(tmp_path: Path) -> None:
    with pytest.raises(EgoposeError, match="cannot be written as JSON"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_its_name_after_its_files_reached_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from egopose.files import rename_folder

    part, synced = tmp_path / ".part", []
    part.mkdir()
    for name in ("a", "b"):
        (part / name).write_text(name)

    def fsync(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), (tmp_path / "final").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    rename_folder(part, tmp_path / "final")
    assert sorted(p.name for p in (tmp_path / "final").iterdir()) == ["a", "b"]
    before = {Path(name).name for name, renamed in synced if not renamed}
    assert before == {"a", "b", ".part"}
    assert (str(tmp_path), True) in synced


@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_interrupt_at_any_line_of_the_writer_leaves_nothing_behind(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "x.bin"
    lines, interrupted, helped = 0, 0, 0

    def interrupt_at(wanted: int) -> Callable[..., Any]:
        def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
            nonlocal lines
            if frame.f_code.co_filename not in (files.__file__, contextlib.__file__):
                return None
            lines += event == "line"
            if event == "line" and lines == wanted:
                raise KeyboardInterrupt
            return trace

        return trace

    before = sys.gettrace()
    for wanted in range(1, 500):
        path.unlink(missing_ok=True)
        if old is not None:
            path.write_bytes(old)
        lines = 0
        sys.settrace(interrupt_at(wanted))
        try:
            with files.atomic_write(path) as stream:
                stream.write(b"new")
        except KeyboardInterrupt:
            interrupted += 1
            sys.settrace(before)
            # as in the command line, the exception still holds the blocks that it left
            helped += any(p.name != "x.bin" for p in tmp_path.iterdir())
            files.remove_unfinished()
            assert [p.name for p in tmp_path.iterdir()] in ([], ["x.bin"])
        else:
            break
        finally:
            sys.settrace(before)
        assert [p.name for p in tmp_path.iterdir()] in ([], ["x.bin"])
        assert (path.read_bytes() if path.exists() else None) in (old, b"new")
    assert interrupted > 15
    # on the way out of a block, say, before its cleaning has begun
    assert helped > 0
    assert path.read_bytes() == b"new"


def test_a_stopped_command_removes_what_it_was_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from egopose import cli

    def stopped(*_: object) -> int:
        for suffix in (".tmp", ".part"):
            temporary = files.temporary_beside(tmp_path / "x", suffix)
            temporary.write_bytes(b"half") if suffix == ".tmp" else temporary.mkdir()
        raise SystemExit(143)

    monkeypatch.setattr(cli, "run_verb", stopped)
    with pytest.raises(SystemExit):
        cli.main(["convert", "a", "b"])
    assert list(tmp_path.iterdir()) == []
