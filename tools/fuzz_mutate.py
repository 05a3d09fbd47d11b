"""Damage: bytes, words, lines, trees of JSON and YAML, members of zip files, headers of arrays.

Inputs of several files travel as one blob (:func:`pack`, :func:`unpack`).
"""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

Files = dict[str, bytes]
Native = Callable[[bytes, int], bytes]
"""The fuzzer's own mutator: data and largest size to data."""

MAGIC = b"FUZZ"
NUMBERS = (
    "0", "-0.0", "1", "-1", "2", "1e-320", "5e-324", "1e308", "-1e308", "1e309", "1e39", "3.4e38", "1e6", "1e16", "NaN",
    "nan", "inf", "-Infinity", "2147483647", "-2147483648", "4294967296", "9223372036854775807", "9223372036854775808",
    "-9223372036854775809", "99999999999999999999999999", "0x10", "1_000", "1.5", "true", "null", "", " ", '"1"', "[]",
    "{}", "0.1.2", "--1", "1e", "\u0661", "1" * 400, "1" * 5000,
)  # fmt: skip
TOKENS = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b",", b":", b"\n", b"\r", b"\r\n", b'"', b"'", b"[", b"]", b"{", b"}", b"\t",
    b"#", b"&a ", b"*a", b"<<: *a", b"!!python/object:os.system", b"---\n", b"%", b"\\u0000", b"\\ud800", b"<", b">",
    b"<!DOCTYPE x [<!ENTITY a 'b'>]>", b"&a;", b"../../x", b"/etc/passwd", b"[[", b"= ",
    b"\xc3\x28", b"\xf0\x9f\x92\x80",
)  # fmt: skip
WORDS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 5e-324, 1e-310, 1e39, 1e308,
    float("nan"), float("inf"), -float("inf"), "", "x", "nan", "1", "\x00", "\ud800", "../../x", "a" * 300, [], {},
    [[]], [None], [0, 0, 0], {"x": 1}, [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[[[[[[[1]]]]]]]], "\u0663", [1e400], 1e6,
    "left-knee",
)  # fmt: skip
BINARY = (".c3d", ".parquet", ".mp4", ".safetensors", ".npz", ".npy", ".onnx")


def pack(files: Files) -> bytes:
    """Several files as one blob."""
    return MAGIC + msgspec.msgpack.encode(list(files.items()))


def unpack(blob: bytes) -> Files | None:
    """The files of a blob; None when it is none any more, or a name would leave the folder."""
    if not blob.startswith(MAGIC):
        return None
    try:
        pairs = msgspec.msgpack.decode(blob[len(MAGIC) :], type=list[tuple[str, bytes]])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    if len(pairs) > 64 or not all(_inside(name) for name, _ in pairs):
        return None
    return dict(pairs)


def _inside(name: str) -> bool:
    parts = name.split("/")
    return 0 < len(name) < 200 and "\x00" not in name and all(0 < len(p) < 100 and p not in (".", "..") for p in parts)


def mutate_blob(blob: bytes, max_size: int, rng: random.Random, native: Native, name: str | None) -> bytes:
    """Damage one input.

    Args:
        blob: The file, or several as :func:`pack` joins them.
        max_size: Larger results are damaged differently, or cut.
        rng: Where chance comes from.
        native: The fuzzer's own mutator, used for some of the damage.
        name: Name of the one file, None for several.
    """
    if name is not None:
        return _cut(mutate_file(name, blob, rng, native, max_size), max_size)
    files = unpack(blob)
    if not files:
        return native(blob, max_size)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if rng.random() < 0.12:
            files = _mutate_names(files, rng)
        elif files:
            key = rng.choice(list(files))
            files[key] = mutate_file(key, files[key], rng, native, max_size)
    out = pack(files)
    return out if len(out) <= max_size else blob


def _cut(data: bytes, size: int) -> bytes:
    return data if len(data) <= size else data[:size]


def _mutate_names(files: Files, rng: random.Random) -> Files:
    names = list(files)
    if not names:
        return files
    key = rng.choice(names)
    kind = rng.randrange(6)
    if kind == 0:
        return {n: d for n, d in files.items() if n != key}
    if kind == 1:
        return {**files, key: files[rng.choice(names)]}
    if kind == 2:
        return {**files, key: b""}
    stem, dot, suffix = key.rpartition(".")
    new = {
        3: f"{stem}x{dot}{suffix}",
        4: re.sub(r"\d", lambda m: str(rng.randrange(10)), key),
        5: f"{key}.bak",
    }[kind]
    return (
        {**files, new: files[key]}
        if rng.random() < 0.5
        else {n: d for n, d in files.items() if n != key} | {new: files[key]}
    )


def mutate_file(name: str, data: bytes, rng: random.Random, native: Native, max_size: int) -> bytes:
    """Damage one file by what its name says it is."""
    from tools.fuzz_binary import mutate_binary

    suffix = Path(name).suffix.lower()
    out = data
    for _ in range(rng.choice((1, 1, 1, 1, 1, 2, 3))):
        roll = rng.random()
        if roll < 0.25 or not out:
            out = native(out or b"0", max_size)
        elif roll < 0.35:
            out = mutate_bytes(out, rng)
        elif suffix in BINARY:
            out = mutate_binary(suffix, out, rng)
        elif suffix in (".json", ".jsonl", ".yaml", ".yml") and roll < 0.8:
            out = mutate_tree(out, rng, yaml=suffix in (".yaml", ".yml"))
        else:
            out = mutate_text(out, rng)
    return out


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Cut, drop, flip, overwrite or repeat bytes."""
    out = bytearray(data)
    a = rng.randrange(len(out))
    b = min(len(out), a + rng.choice((1, 2, 4, 8, 40, 200)))
    kind = rng.randrange(8)
    if kind == 0:
        del out[a:]
    elif kind == 1:
        del out[a:b]
    elif kind == 2:
        out[a] ^= 1 << rng.randrange(8)
    elif kind == 3:
        out[a:b] = rng.choice(TOKENS)
    elif kind == 4:
        out[a:a] = out[a:b] * rng.choice((1, 2, 30))
    elif kind == 5:
        out[a:b] = rng.randbytes(b - a)
    elif kind == 6:
        word = rng.choice(WORDS)
        packed = struct.pack(rng.choice("<>") + "Q", word)
        size = rng.choice((1, 2, 4, 8))
        out[a : a + size] = packed[:size] if rng.random() < 0.5 else packed[-size:]
    else:
        c = rng.randrange(len(out))
        out[a:b], out[c : c + b - a] = out[c : c + b - a], out[a:b]
    return bytes(out)


_NUMBER = re.compile(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")


def mutate_text(data: bytes, rng: random.Random) -> bytes:
    """Numbers, lines and cells."""
    kind = rng.randrange(7)
    if kind <= 1:
        hits = list(_NUMBER.finditer(data[:200_000]))
        if not hits:
            return mutate_bytes(data, rng)
        hit = rng.choice(hits)
        return data[: hit.start()] + rng.choice(NUMBERS).encode() + data[hit.end() :]
    if kind == 2:
        a = rng.randrange(len(data) + 1)
        return data[:a] + rng.choice(TOKENS) + data[a:]
    end = b"\n" if b"\n" in data else b">"
    lines = data.split(end)
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    if kind == 3:
        lines[i], lines[j] = lines[j], lines[i]
    elif kind == 4:
        lines[i:i] = [lines[j]] * rng.choice((1, 1, 2, 20))
    elif kind == 5:
        del lines[i : i + rng.choice((1, 1, 2, 10))]
    else:
        split = next((s for s in (b",", b"\t", b" ") if s in lines[i]), b",")
        cells = lines[i].split(split)
        k = rng.randrange(len(cells))
        what = rng.randrange(4)
        if what == 0:
            cells[k] = rng.choice(NUMBERS).encode()
        elif what == 1:
            del cells[k]
        elif what == 2:
            cells[k:k] = [rng.choice(cells)]
        else:
            cells[k], cells[0] = cells[0], cells[k]
        lines[i] = split.join(cells)
    return end.join(lines)


def mutate_tree(data: bytes, rng: random.Random, *, yaml: bool) -> bytes:
    """Edit a document as a tree; what cannot be parsed is damaged as text."""
    try:
        if yaml:
            import yaml as library

            tree = library.safe_load(data.decode())
        else:
            # one document per line, or one in all
            texts = data.decode().split("\n") if data.count(b"\n{") else [data.decode()]
            at = rng.randrange(len(texts))
            tree = json.loads(texts[at])
        tree = edit_tree(tree, rng)
        if yaml:
            return library.safe_dump(tree, default_flow_style=rng.random() < 0.5).encode()
        texts[at] = json.dumps(tree)
    except Exception:
        return mutate_text(data, rng)
    out = "\n".join(texts).encode("utf-8", "surrogatepass")
    if rng.random() < 0.03:
        # a key twice, which no tree can hold
        out = re.sub(rb'("[^"]{1,40}": )', rb"\1 1, \1", out, count=1)
    return out


def edit_tree(tree: Any, rng: random.Random) -> Any:
    """Change one node somewhere; the document must be small enough to be walked."""
    path: list[Any] = []
    node = tree
    while isinstance(node, dict | list) and node and (not path or rng.random() < 0.85):
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        path.append((node, key))
        node = node[key]
    if not path:
        return rng.choice(VALUES)
    parent, key = path[-1]
    kind = rng.randrange(10)
    if kind == 0:
        del parent[key]
    elif kind <= 3:
        parent[key] = rng.choice(VALUES)
    elif kind == 4 and isinstance(node, int | float) and not isinstance(node, bool):
        parent[key] = rng.choice((-node, node + 1, node * 1e6, node * 1e-6, node - 1, float(node), str(node)))
    elif kind == 5 and isinstance(parent, dict):
        new = rng.choice((str(key) + "x", "", "0", "-1", "1e3", "007", str(key).upper(), "\u0663", "9" * 30))
        parent[new] = parent.pop(key) if rng.random() < 0.5 else node
    elif kind == 5:
        parent.insert(key, node)
    elif kind == 6 and isinstance(node, list):
        rng.shuffle(node)
    elif kind == 6 and isinstance(node, dict):
        items = list(node.items())
        rng.shuffle(items)
        node.clear()
        node.update(items)
    elif kind == 7:
        parent[key] = [node]
    elif kind == 8 and isinstance(node, list) and len(node) < 200:
        node.extend(node[:50] * rng.choice((1, 1, 3)))
    else:
        other, at = rng.choice(path)
        value = json.loads(json.dumps(other[at], default=str))
        parent[key] = value
    return tree
