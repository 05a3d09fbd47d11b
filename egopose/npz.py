"""Arrays of ``.npz`` files from outside: nothing is unpickled, and a small file cannot fill the memory."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError

ALWAYS_BYTES = 256 << 20
MAX_RATIO = 100
"""A file may unpack to :data:`ALWAYS_BYTES`, or to this many times its own size when that is more: measurements pack
three to tenfold, zip bombs a thousandfold."""
MAX_MEMBERS = 1024
DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error, ValueError, KeyError,
    SyntaxError, TypeError, MemoryError, OverflowError, IndexError,
)  # fmt: skip
"""What ``zipfile`` and ``numpy`` raise on damaged files."""


def check_unpacked(archive: zipfile.ZipFile, path: Path, max_bytes: int | None, max_members: int = MAX_MEMBERS) -> None:
    """Refuse an archive that unpacks to far more than it is.

    Args:
        archive: The open file.
        path: Its name.
        max_bytes: Bound on the unpacked size; None follows from the size of the file.
        max_members: Bound on the number of members.

    Raises:
        EgoposeError: It is larger, or has more members.
    """
    limit = max(ALWAYS_BYTES, MAX_RATIO * path.stat().st_size) if max_bytes is None else max_bytes
    members = archive.infolist()
    total = sum(member.file_size for member in members)
    if total > limit or len(members) > max_members:
        raise EgoposeError(
            f"{path}: unpacks to {total} bytes in {len(members)} members; at most {limit} bytes in {max_members} are "
            "read from a file of this size; is it the file you meant?"
        )


def array_from(data: bytes, where: str, kinds: str = "fiubU") -> NDArray[Any]:
    """One ``.npy`` member; its stated size must equal what is there, so a lying header allocates nothing.

    Args:
        data: The member.
        where: Its name, for messages.
        kinds: NumPy's codes of the types accepted.

    Raises:
        EgoposeError: Not an array, of another type, or truncated.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise EgoposeError(f"{where}: npy version {version} is not read; expected 1.0 or 2.0")
        shape, fortran, dtype = readers[version](stream)
    except EgoposeError:
        raise
    except Exception as error:
        # the header is Python source: its parser leaks errors of many kinds (tokenizer, syntax, recursion)
        raise EgoposeError(
            f"{where}: its header cannot be read ({' '.join(str(error).split())}); the file is damaged"
        ) from error
    if dtype.hasobject or dtype.kind not in kinds or (dtype.itemsize == 0):
        raise EgoposeError(f"{where}: holds values of type {dtype}; expected numbers" + " or text" * ("U" in kinds))
    count = 1
    for extent in shape:
        count *= int(extent)
    rest = len(data) - stream.tell()
    if min(shape, default=0) < 0 or count * dtype.itemsize != rest:
        raise EgoposeError(f"{where}: {rest} bytes for shape {shape} of {dtype}; the file is damaged")
    try:
        # a copy: views of bytes are read-only, which other libraries dislike
        flat = np.frombuffer(data, dtype=dtype, offset=stream.tell()).copy()
        if dtype.kind == "U" and (flat.view(f"{dtype.byteorder}u4") > 0x10FFFF).any():
            raise EgoposeError(f"{where}: holds text that is none; the file is damaged")
        return flat.reshape(shape, order="F" if fortran else "C")
    except (ValueError, OverflowError) as error:
        raise EgoposeError(f"{where}: shape {shape} of {dtype} cannot be made ({error})") from error


def read_npz(
    path: str | os.PathLike[str], keys: Sequence[str] | None = None, *, what: str = "npz", optional: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` file.

    Args:
        path: The file.
        keys: Arrays that must be there; only these and ``optional`` are read. None reads all.
        what: What the file should be, for messages.
        optional: Arrays that are read where they are there.

    Raises:
        EgoposeError: Unreadable, damaged, larger than its size allows, pickled, or an array is absent.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            check_unpacked(archive, path, None)
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if len(set(names)) != len(names):
                raise EgoposeError(f"{path}: an array stands twice in it; expected {what}")
            lost = [key for key in keys or () if key not in names]
            if lost:
                raise EgoposeError(f"{path}: has no array {lost[0]!r}; expected {', '.join(keys or ())}")
            wanted = names if keys is None else [name for name in names if name in keys or name in optional]
            stored = dict(zip(names, archive.namelist()))
            return {name: array_from(archive.read(stored[name]), f"{path}: {name}") for name in wanted}
    except EgoposeError:
        raise
    except OSError as error:
        raise EgoposeError(f"{path}: cannot be read as {what} ({error.strerror or error}); check the path") from error
    except DAMAGE as error:
        raise EgoposeError(
            f"{path}: cannot be read as {what} ({' '.join(str(error).split())}); the file is truncated or damaged"
        ) from error


def map_npy(path: str | os.PathLike[str]) -> NDArray[Any]:
    """An ``.npy`` file as a memory map; its values are read when they are used.

    Raises:
        EgoposeError: Unreadable, damaged, pickled, or shorter than its header says.
    """
    try:
        with warnings.catch_warnings():
            # a product of shapes that overflows is refused just below
            warnings.simplefilter("ignore", RuntimeWarning)
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            if not isinstance(found, np.ndarray):
                found.close()
                raise EgoposeError(f"{path}: holds several arrays; expected one (.npy)")
            return found
    except EgoposeError:
        raise
    except OSError as error:
        raise EgoposeError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except Exception as error:
        # the header is Python source: its parser leaks errors of many kinds
        raise EgoposeError(f"{path}: not an array file ({' '.join(str(error).split())}); it is damaged") from error
