"""Damage of binary files: members of zip files, headers of arrays, header words of C3D, safetensors and Parquet."""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import warnings
import zipfile
from typing import Any

import numpy as np

SHAPES = (
    "(0,)", "(1,)", "(-1,)", "(3, 3)", "()", "(999999999999,)", "(9223372036854775807, 9223372036854775807)",
    "(4294967296, 4294967296, 16)", repr((2,) * 34), "(True,)", "(1.5,)", "'x'", "None", "(17, 3)", "(3, 17, 3)",
)  # fmt: skip
DTYPES = (
    "'|O'", "'<f8'", "'<f4'", "'>f4'", "'<f2'", "'<i8'", "'|b1'", "'|u1'", "'<U5'", "'|S3'", "'<c16'", "'<M8[ns]'",
    "'|V8'", "[('a', '<f8')]", "'<U999999999'", "'x'", "None", "'<f16'",
)  # fmt: skip
MEMBERS = ("../../escape.npy", "/tmp/escape.npy", "C:\\x.npy", "a/b.npy", "x", "\x00.npy", "egopose.json")


def mutate_binary(suffix: str, data: bytes, rng: random.Random) -> bytes:
    """Damage a binary file by its kind; what is not of that kind any more is damaged as bytes."""
    from tools.fuzz_mutate import mutate_bytes

    try:
        if suffix == ".npz":
            return mutate_zip(data, rng)
        if suffix == ".npy":
            return mutate_npy(data, rng)
        if suffix == ".safetensors":
            return mutate_safetensors(data, rng)
        if suffix == ".parquet" and rng.random() < 0.6:
            return mutate_parquet(data, rng)
        if suffix == ".c3d":
            return mutate_words(data, rng, 1536)
        if suffix == ".mp4":
            return mutate_words(data, rng, len(data))
    except Exception:
        # the damaged file is no longer of its kind
        return mutate_bytes(data, rng)
    return mutate_bytes(data, rng)


def mutate_words(data: bytes, rng: random.Random, reach: int) -> bytes:
    """Set a 16-bit or 32-bit word near the front, where headers are."""
    out = bytearray(data)
    at = rng.randrange(max(1, min(len(out), reach)))
    at -= at % 2
    if rng.random() < 0.5:
        out[at : at + 2] = struct.pack(
            "<H", rng.choice((0, 1, 2, 255, 256, 0x7FFF, 0x8000, 0xFFFF, rng.randrange(65536)))
        )
    elif rng.random() < 0.5:
        out[at : at + 1] = bytes([rng.choice((0, 1, 2, 3, 127, 128, 254, 255))])
    else:
        value = rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e38, 1e-40))
        out[at : at + 4] = struct.pack("<f", value)
    return bytes(out)


def mutate_npy(data: bytes, rng: random.Random) -> bytes:
    """The header's shape, type or order, or the values."""
    if not data.startswith(b"\x93NUMPY") or len(data) < 12:
        raise ValueError("no npy")
    (size,) = struct.unpack_from("<H", data, 8)
    header = data[10 : 10 + size].decode("latin-1")
    body = data[10 + size :]
    kind = rng.randrange(6)
    if kind == 0:
        start = header.index("'shape':")
        header = header[:start] + f"'shape': {rng.choice(SHAPES)}, }}"
    elif kind == 1:
        end = header.index("'fortran_order'")
        header = "{'descr': " + rng.choice(DTYPES) + ", " + header[end:]
    elif kind == 2:
        header = header.replace("False", rng.choice(("True", "0", "None")), 1)
    elif kind == 3:
        header = rng.choice(("", "{", "{}", "[" * 200, "__import__('os')", "1" * 5000, header + header))
    else:
        return data[: 10 + size] + _values(header, body, rng)
    text = header.rstrip().encode("latin-1")
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    version = rng.choice((b"\x01\x00",) * 6 + (b"\x02\x00", b"\x09\x09"))
    length = struct.pack("<I", len(text)) if version == b"\x02\x00" else struct.pack("<H", len(text) & 0xFFFF)
    return b"\x93NUMPY" + version + length + text + body


def _values(header: str, body: bytes, rng: random.Random) -> bytes:
    """Other values of the same type, so that the file stays well formed."""
    for code in ("f4", "f8", "i8", "f2", "i4"):
        if f"<{code}" in header:
            array = np.frombuffer(body, dtype=f"<{code}").copy()
            if array.size:
                at = rng.randrange(array.size)
                many = slice(at, at + rng.choice((1, 1, 3, 60)))
                if code[0] == "f":
                    array[many] = rng.choice((np.nan, np.inf, -np.inf, 0, -1, 1e30, 1e-42, 1e6, 2, -0.0))
                else:
                    array[many] = rng.choice((0, 1, -1, 2**31 - 1, 2**62 if code == "i8" else 5, 3))
                return array.tobytes()
    out = bytearray(body)
    if out:
        out[rng.randrange(len(out))] = rng.choice((0, 1, 2, 7, 255))
    return bytes(out)


def mutate_zip(data: bytes, rng: random.Random) -> bytes:
    """Members changed, renamed, dropped, doubled or added; a stated hash is put right half of the time."""
    from tools.fuzz_mutate import edit_tree, mutate_bytes

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    i = rng.randrange(len(members))
    name, content = members[i]
    kind = rng.randrange(10)
    if kind <= 4:
        if name.endswith(".npy"):
            content = mutate_npy(content, rng)
        elif name.endswith(".json"):
            content = json.dumps(edit_tree(json.loads(content), rng)).encode()
        else:
            content = mutate_bytes(content, rng)
        members[i] = (name, content)
    elif kind == 5:
        del members[i]
    elif kind == 6:
        members.insert(0, (rng.choice(MEMBERS), content))
    elif kind == 7:
        members[i] = (rng.choice(MEMBERS), content)
    elif kind == 8:
        members[i] = (name, members[rng.randrange(len(members))][1])
    else:
        members.append((name, content))
    if rng.random() < 0.8:
        members = _rehash(members)
    return make_zip(members, zipfile.ZIP_STORED if rng.random() < 0.5 else zipfile.ZIP_DEFLATED)


def make_zip(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of members, names taken as they are."""
    stream = io.BytesIO()
    # a name twice is the point of some inputs
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            archive.writestr(info, content)
    return stream.getvalue()


def _rehash(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Put the package's own hash right, so that damage gets past it."""
    from egopose.io.native import META, digest

    place = next((i for i, (name, _) in enumerate(members) if name == META), None)
    if place is None:
        return members
    try:
        meta = json.loads(members[place][1])
        arrays = {
            name.removesuffix(".npy"): np.load(io.BytesIO(content), allow_pickle=False)
            for name, content in members
            if name != META
        }
        meta["sha256"] = digest(meta, arrays)
    except Exception:
        return members
    out = list(members)
    out[place] = (META, json.dumps(meta).encode())
    return out


def mutate_safetensors(data: bytes, rng: random.Random) -> bytes:
    """The header's tree, the configuration inside it, or values of tensors with the hash put right."""
    from tools.fuzz_mutate import edit_tree

    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    body = data[8 + size :]
    kind = rng.randrange(6)
    about = header.get("__metadata__", {})
    if kind == 0:
        header = edit_tree(header, rng)
    elif kind == 1:
        config = edit_tree(json.loads(about["config"]), rng)
        about["config"] = json.dumps(config)
    elif kind == 2:
        about["notes"] = json.dumps(edit_tree(json.loads(about["notes"]), rng))
    elif kind == 3:
        names = [n for n in header if n != "__metadata__"]
        drop = rng.choice(names)
        del header[drop]
        about["sha256"] = "0" * 64
    elif kind == 4:
        names = [n for n in header if n != "__metadata__"]
        entry = header[rng.choice(names)]
        entry["dtype"] = rng.choice(("F32", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "X"))
    else:
        changed = bytearray(body)
        at = rng.randrange(max(1, len(changed) - 4))
        changed[at : at + 2] = rng.choice((b"\x00\x7c", b"\x01\x7e", b"\xff\xff", b"\x00\x00"))
        body = bytes(changed)
        about["sha256"] = _tensor_hash(header, body)
    text = json.dumps(header).encode()
    size = len(text) if rng.random() < 0.95 else rng.choice((0, 1, 2**63, len(text) * 100, 100_000_001))
    return struct.pack("<Q", size) + text + body


def _tensor_hash(header: dict[str, Any], body: bytes) -> str:
    """As ``egopose.model.weights.hash_tensors``, from the bytes."""
    names = {"F32": "torch.float32", "F16": "torch.float16", "I64": "torch.int64", "BOOL": "torch.bool"}
    state = hashlib.sha256()
    for name in sorted(n for n in header if n != "__metadata__"):
        entry = header[name]
        start, stop = entry["data_offsets"]
        state.update(f"{name} {names[entry['dtype']]} {tuple(entry['shape'])} ".encode())
        state.update(body[start:stop])
    return state.hexdigest()


def mutate_parquet(data: bytes, rng: random.Random) -> bytes:
    """Columns dropped, renamed or of another type; rows doubled, shuffled or null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(data))
    kind = rng.randrange(6)
    i = rng.randrange(table.num_columns)
    name = table.column_names[i]
    if kind == 0:
        table = table.drop_columns([name])
    elif kind == 1:
        table = table.rename_columns([c + "x" if c == name else c for c in table.column_names])
    elif kind == 2:
        kinds = (pa.string(), pa.float64(), pa.int32(), pa.bool_(), pa.float32(), pa.int64())
        table = table.set_column(i, name, table.column(i).cast(rng.choice(kinds), safe=False))
    elif kind == 3:
        rows = [rng.randrange(table.num_rows) for _ in range(min(table.num_rows * 2, 400))]
        table = table.take(rows)
    elif kind == 4:
        values = table.column(i).to_pylist()
        value = rng.choice((None, float("nan"), float("inf"), -1, 0, 2**62, "x", 1e300))
        values[rng.randrange(len(values))] = value
        table = table.set_column(i, name, pa.array(values, type=None if rng.random() < 0.5 else table.column(i).type))
    else:
        table = table.append_column(name + "_", table.column(i))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=rng.choice(("none", "snappy", "zstd")))
    return sink.getvalue().to_pybytes()
