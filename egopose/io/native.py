"""The package's own file: a plain ``.npz`` with a JSON member that says what it is.

Layout: ``egopose.json`` (format, schema version, skeleton, provenance, SHA-256 of the content), then one ``.npy``
member per array. ``numpy.load`` opens it too. Nothing is pickled; sizes are checked before anything is allocated;
equal objects give equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.files import atomic_write, parse_json, plain_json
from egopose.io.fields import mapping, numbers, sequence, whole
from egopose.io.registry import reader, writer
from egopose.npz import DAMAGE, array_from, check_unpacked
from egopose.observations import Observations2D
from egopose.pose import PoseSequence
from egopose.skeleton import SKELETONS, Skeleton
from egopose.trajectory import Trajectory

SCHEMA = 1
META = "egopose.json"
MAX_META_BYTES = 32 << 20
MAX_MEMBERS = 64
_EPOCH = (1980, 1, 1, 0, 0, 0)
Arrays = dict[str, NDArray[Any]]


def skeleton_record(skeleton: Skeleton) -> dict[str, Any]:
    """A skeleton as JSON."""
    return {
        "name": skeleton.name,
        "joints": list(skeleton.joints),
        "bones": [list(pair) for pair in skeleton.bones],
        "mirror": [list(pair) for pair in skeleton.mirror],
    }


def skeleton_from(record: Any, where: str) -> Skeleton:
    """A skeleton from JSON; the known one where nothing differs."""
    table = mapping(record, where)
    try:
        joints = tuple(str(joint) for joint in table["joints"])
        pairs = {
            name: tuple((whole(a, where), whole(b, where)) for a, b in table.get(name, ()))
            for name in ("bones", "mirror")
        }
        skeleton = Skeleton(str(table["name"]), joints, pairs["bones"], pairs["mirror"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, EgoposeError):
            raise
        raise EgoposeError(f"{where}: the skeleton cannot be read ({error!r}); expected name and joints") from error
    known = SKELETONS.get(skeleton.name)
    return known if known == skeleton else skeleton


def digest(meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over the description (without the digest itself) and every array's name, type, shape and bytes."""
    state = hashlib.sha256()
    body = {name: value for name, value in meta.items() if name != "sha256"}
    state.update(json.dumps(body, sort_keys=True, allow_nan=False).encode())
    for name in sorted(arrays):
        array = arrays[name]
        state.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def write_container(path: Path, meta: dict[str, Any], arrays: Arrays, *, compress: bool) -> None:
    """Write description and arrays as one zip file, atomically and reproducibly."""
    meta = {**meta, "sha256": digest(meta, arrays)}
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with atomic_write(path) as stream, zipfile.ZipFile(stream, "w", method) as archive:

        def member(name: str, data: bytes) -> None:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = method
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)

        member(META, json.dumps(meta, indent=1, allow_nan=False).encode())
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            member(f"{name}.npy", buffer.getvalue())


def read_container(path: Path, max_bytes: int | None = None) -> tuple[dict[str, Any], Arrays]:
    """Read and verify what :func:`write_container` wrote.

    Raises:
        EgoposeError: Not such a file, damaged, edited, of a newer schema, or unpacks to more than ``max_bytes``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_unpacked(archive, Path(path), max_bytes, MAX_MEMBERS)
            names = archive.namelist()
            if META not in names or len(set(names)) != len(names):
                raise EgoposeError(f"{path}: has no member {META!r} or repeats one; not a file of this package")
            if archive.getinfo(META).file_size > MAX_META_BYTES:
                raise EgoposeError(f"{path}: its description has {archive.getinfo(META).file_size} bytes; damaged")
            meta = dict(mapping(parse_json(archive.read(META), f"{path}: {META}"), f"{path}: {META}"))
            arrays = {
                name.removesuffix(".npy"): array_from(archive.read(name), f"{path}: {name}", "fiub")
                for name in names
                if name != META
            }
    except EgoposeError:
        raise
    except OSError as error:
        raise EgoposeError(f"{path}: cannot read ({error.strerror or error}); check the path") from error
    except DAMAGE as error:
        text = " ".join(str(error).split())
        raise EgoposeError(f"{path}: cannot be unpacked ({text}); the file is truncated or damaged") from error
    schema = meta.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise EgoposeError(f"{path}: schema version {schema!r}; expected {SCHEMA}")
    if schema > SCHEMA:
        raise EgoposeError(f"{path}: schema version {schema}, this egopose reads up to {SCHEMA}; update egopose")
    try:
        found = digest(meta, arrays)
    except ValueError as error:
        raise EgoposeError(f"{path}: its description holds NaN ({error}); the file was edited") from error
    if meta.get("sha256") != found:
        raise EgoposeError(f"{path}: the content does not match its SHA-256; the file is damaged or was edited")
    return meta, arrays


def _sniff(path: Path, head: bytes) -> bool:
    return head.startswith(b"PK") and META.encode() in head[:256]


@reader(
    "native",
    kinds=("PoseSequence", "Observations2D", "Trajectory"),
    suffixes=(".npz",),
    looks_for="a zip file whose first member is egopose.json",
    description="this package's own file, lossless",
    sniff=_sniff,
)
def read(path: Path, *, max_bytes: int | None = None) -> Any:
    """Read a native file; ``max_bytes`` bounds the unpacked size, None by the size of the file."""
    meta, arrays = read_container(Path(path), max_bytes)
    builders: dict[str, Callable[[Mapping[str, Any], Arrays, str], Any]] = {
        "egopose-pose": _pose,
        "egopose-observations": _observations,
        "egopose-trajectory": _trajectory,
    }
    kind = meta.get("format")
    if not isinstance(kind, str) or kind not in builders:
        raise EgoposeError(f"{path}: holds {kind!r}; expected one of {', '.join(builders)}")
    try:
        return builders[kind](meta, arrays, str(path))
    except (KeyError, TypeError) as error:
        raise EgoposeError(f"{path}: lacks or garbles {error}; the file is not complete") from error
    except EgoposeError as error:
        text = str(error)
        raise error if text.startswith(str(path)) else EgoposeError(f"{path}: {text}") from error


def _pose(meta: Mapping[str, Any], arrays: Arrays, where: str) -> PoseSequence:
    return PoseSequence(
        skeleton=skeleton_from(meta["skeleton"], where),
        frames=arrays["frames"],
        times_s=arrays["times_s"],
        xyz=arrays["xyz"],
        sigma=arrays.get("sigma"),
        covariance=arrays.get("covariance"),
        status=arrays.get("status"),
        space=str(meta["space"]),
        provenance=mapping(meta.get("provenance", {}), f"{where}: provenance"),
    )


def _size(value: Any, where: str) -> tuple[int, int]:
    pair = sequence(value, f"{where}: sizes")
    if len(pair) != 2:
        raise EgoposeError(f"{where}: an image size has {len(pair)} numbers; expected width and height")
    return whole(pair[0], where), whole(pair[1], where)


def _observations(meta: Mapping[str, Any], arrays: Arrays, where: str) -> Observations2D:
    sizes = [
        None if size is None else _size(size, where) for size in sequence(meta.get("sizes", []), f"{where}: sizes")
    ]
    fps = meta.get("fps")
    return Observations2D(
        skeleton=skeleton_from(meta["skeleton"], where),
        views=tuple(str(view) for view in sequence(meta["views"], f"{where}: views")),
        frames=arrays["frames"],
        uv_px=arrays["uv_px"],
        score=arrays.get("score"),
        fps=None if fps is None else float(numbers(fps, f"{where}: fps", ())),
        undistorted=bool(meta.get("undistorted", False)),
        sizes=tuple(sizes),
        provenance=mapping(meta.get("provenance", {}), f"{where}: provenance"),
    )


def _trajectory(meta: Mapping[str, Any], arrays: Arrays, where: str) -> Trajectory:
    gap = float(numbers(meta["max_gap_s"], f"{where}: max_gap_s", ()))
    return Trajectory(arrays["times_s"], arrays["T_world_camera"], max_gap_s=gap)


@writer(
    "native",
    kinds=("PoseSequence", "Observations2D", "Trajectory"),
    suffixes=(".npz",),
    description="this package's own file, lossless",
)
def write(obj: Any, path: Path, *, compress: bool = True) -> None:
    """Write a native file; ``compress=False`` is faster and larger."""
    meta: dict[str, Any] = {"format": "", "schema": SCHEMA}
    optional: dict[str, NDArray[Any] | None] = {}
    if isinstance(obj, PoseSequence):
        meta |= {"format": "egopose-pose", "skeleton": skeleton_record(obj.skeleton), "space": obj.space}
        meta |= {"provenance": plain_json(obj.provenance)}
        optional = {"frames": obj.frames, "times_s": obj.times_s, "xyz": obj.xyz}
        optional |= {"sigma": obj.sigma, "covariance": obj.covariance, "status": obj.status}
    elif isinstance(obj, Observations2D):
        meta |= {"format": "egopose-observations", "skeleton": skeleton_record(obj.skeleton), "views": list(obj.views)}
        meta |= {"fps": obj.fps, "undistorted": obj.undistorted, "provenance": plain_json(obj.provenance)}
        meta |= {"sizes": [None if size is None else [int(size[0]), int(size[1])] for size in obj.sizes]}
        optional = {"frames": obj.frames, "uv_px": obj.uv_px, "score": obj.score}
    elif isinstance(obj, Trajectory):
        meta |= {"format": "egopose-trajectory", "max_gap_s": obj.max_gap_s}
        optional = {"times_s": obj.times_s, "T_world_camera": obj.T_world_camera}
    arrays = {name: array for name, array in optional.items() if array is not None}
    write_container(Path(path), meta, arrays, compress=compress)
