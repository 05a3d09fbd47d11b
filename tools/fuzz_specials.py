"""Hostile files that chance would not find: bombs, deep nesting, huge declared sizes, names that leave the folder."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tools.fuzz_binary import make_zip
from tools.fuzz_mutate import Files, pack

BOMB_BYTES = 1_300_000_000
"""Above the memory that an input may take."""


@cache
def _zeros() -> tuple[bytes, int]:
    """Deflated zeros and their CRC: a header of a float64 array first, so that readers of arrays go on.

    They take seconds to make and are kept where a campaign says.
    """
    kept = Path(os.environ["EGOPOSE_FUZZ_KEPT"]) / "zeros" if "EGOPOSE_FUZZ_KEPT" in os.environ else None
    if kept is not None and kept.exists():
        data = kept.read_bytes()
        return data[4:], struct.unpack("<I", data[:4])[0]
    head = npy_header((BOMB_BYTES // 8,))
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
    parts = [squeeze.compress(head)]
    crc = zlib.crc32(head)
    block = bytes(10_000_000)
    for _ in range(BOMB_BYTES // len(block)):
        parts.append(squeeze.compress(block))
        crc = zlib.crc32(block, crc)
    parts.append(squeeze.flush())
    data = b"".join(parts)
    if kept is not None:
        kept.write_bytes(struct.pack("<I", crc) + data)
    return data, crc


def npy_header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    """The front of an ``.npy`` file of any claimed shape."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def bomb(name: str, more: tuple[tuple[str, bytes], ...] = ()) -> bytes:
    """A zip file of a megabyte whose one member unpacks to :data:`BOMB_BYTES`."""
    data, crc = _zeros()
    size = len(npy_header((BOMB_BYTES // 8,))) + BOMB_BYTES // 10_000_000 * 10_000_000
    front = make_zip(list(more)) if more else b""
    body = front[: front.index(b"PK\x01\x02")] if more else b""
    central = front[front.index(b"PK\x01\x02") : front.index(b"PK\x05\x06")] if more else b""
    raw = name.encode()
    fields = (20, 0, 8, 0, 33, crc, len(data), size, len(raw), 0)
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, *fields) + raw + data
    entry = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, *fields, 0, 0, 0, 0, len(body)) + raw
    start = len(body) + len(local)
    count = len(more) + 1
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(central) + len(entry), start, 0)
    return body + local + central + entry + end


def _for_zip(data: bytes) -> Iterator[bytes]:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    for i, (name, content) in enumerate(members):
        rest = tuple(m for k, m in enumerate(members) if k != i)
        if i < 4:
            yield bomb(name, rest)
        if content.startswith(b"\x93NUMPY"):
            for shape in ((10**12,), (2**40, 2**40), (2**62,)):
                yield make_zip([*members[:i], (name, npy_header(shape) + content[128:]), *members[i + 1 :]])
    yield make_zip([*members, *((f"x{k}", b"") for k in range(5000))])
    yield make_zip([(f"../../../tmp/{name}", content) for name, content in members])
    yield make_zip([(name, content[:-1]) for name, content in members])
    yield make_zip([*members, *members])


def _for_npy(data: bytes) -> Iterator[bytes]:
    for shape in ((10**12,), (2**40, 2**40), (2**62,), (-1, 3)):
        yield npy_header(shape, "|u1") + data[128:]
    yield npy_header((3,), "|O") + data[128:]


def _for_json(data: bytes) -> Iterator[bytes]:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        for depth in (70, 2000, 200_000):
            yield opening * depth + (b"1" if opening != b"[" else b"") + closing * depth
            yield opening * depth
    yield b'{"a": ' + b"9" * 500_000 + b"}"
    yield b'{"' + b"a" * 500_000 + b'": 1}'
    yield b"[" + b"1," * 200_000 + b"1]"
    yield data.replace(b"0", b"0" * 30)
    yield data.replace(b": ", b": [[[[", 1)
    yield data + data
    yield b"\xff\xfe" + data.decode("latin-1").encode("utf-16-le")


def _for_yaml(data: bytes) -> Iterator[bytes]:
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for k, name in enumerate("bcdefghij"):
        laughs += f"{name}: &{name} [{', '.join(['*' + 'abcdefghij'[k]] * 9)}]\n"
    yield laughs.encode()
    yield laughs.encode() + data
    yield b"!!python/object/apply:os.system ['true']\n"
    yield b"a: &a\n  b: *a\n"
    yield b"[" * 3000
    yield b"? " * 3000
    yield b"{a: " * 1500
    yield b"- " * 3000 + b"1"
    yield b"%YAML:1.0\n---\n" + b"[" * 2000
    yield b"a: " + b"9" * 10_000
    yield b"a: 2024-99-99\n"
    yield b"? [1, 2]\n: 3\n"
    yield b"? {a: b}\n: 3\n"
    yield b"<<: 5\n"


def _for_text(data: bytes) -> Iterator[bytes]:
    yield data.replace(b"\n", b"\r\n")
    yield data.replace(b"\n", b"\r")
    yield data + data[-200:] * 300
    yield b"a" * 300_000
    yield b"," * 300_000 + b"\n" + data
    yield b'"' + data * 3
    yield b"[" * 3000
    yield b"[a]\n" * 3000
    yield b"a = " + b"[" * 2000 + b"\n"
    yield b"a" + b".a" * 3000 + b" = 1\n"
    laughs = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10 if k else "ha" * 10}">' for k in range(10))
    yield f"<?xml version='1.0'?><!DOCTYPE x [{laughs}]><x>&e9;</x>".encode()
    yield b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><x>&a;</x>"
    yield b"<a>" * 20_000
    yield b"\x00" * 1000 + data


def _for_binary(data: bytes) -> Iterator[bytes]:
    for size in (1, 7, 8, 12, 100, 512, 513, len(data) - 1):
        yield data[:size]
    yield data[:8] + b"\xff" * 1000
    yield data + b"\x00" * 4096
    for start in range(0, min(512, len(data) - 2), 2):
        yield data[:start] + b"\xff\x7f" + data[start + 2 :]


def of_file(name: str, data: bytes) -> Iterator[bytes]:
    """Hostile versions of one file by its suffix; an empty one for all."""
    yield b""
    yield b"\x00"
    suffix = Path(name).suffix.lower()
    if suffix == ".npz":
        yield from _for_zip(data)
    elif suffix == ".npy":
        yield from _for_npy(data)
    elif suffix in (".json", ".jsonl"):
        yield from _for_json(data)
    elif suffix in (".yaml", ".yml"):
        yield from _for_yaml(data)
    if suffix in (".c3d", ".parquet", ".mp4", ".safetensors", ".npy", ".npz"):
        yield from _for_binary(data)
    else:
        yield from _for_text(data)


def specials(blob: bytes, files: Files, single: bool) -> Iterator[bytes]:
    """Hostile versions of a whole input, one file changed at a time."""
    if single:
        ((name, data),) = files.items()
        yield from of_file(name, data)
        return
    for name, data in list(files.items())[:8]:
        for worse in of_file(name, data):
            yield pack({**files, name: worse})
    yield pack({})
