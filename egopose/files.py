"""Files read with bounds and written atomically: no partial or corrupt output is ever left under a final name."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from egopose.errors import EgoposeError

MAX_JSON_BYTES = 8 << 30
MAX_JSON_DEPTH = 64
_unfinished: dict[Path, int] = {}
"""Temporary names that were given and are not known to be gone, with the process that asked for them."""


def _write_error(path: Path, error: OSError) -> EgoposeError:
    reason = error.strerror or str(error)
    return EgoposeError(f"{path}: cannot write ({reason}); nothing was left there, choose a writable place with room")


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable where the system allows it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def rename_folder(part: Path, target: Path) -> None:
    """Give a finished folder of files its final name, after everything in it has reached the disk.

    Raises:
        OSError: A file cannot be synced, or the name is taken.
    """
    for path in part.iterdir():
        with open(path, "rb+") as stream:
            os.fsync(stream.fileno())
    _sync_folder(part)
    part.rename(target)
    _unfinished.pop(part, None)
    _sync_folder(target.parent)


@functools.cache
def _machine() -> str:
    """A short name of this machine since it started, and of the process numbers that it sees."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with contextlib.suppress(OSError):
        # containers number their processes anew
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def temporary_beside(path: Path, suffix: str) -> Path:
    """A name in the same folder to write to before ``path`` appears; nothing is made.

    It names its writer: what killed writers of the same ``path`` on this machine left is removed, what others may still
    be writing stays.

    Args:
        path: The final name.
        suffix: How the temporary name ends.

    Returns:
        A hidden path that does not exist.
    """
    start = f".{path.name[:40]}.{_machine()}-"
    if os.name == "posix":
        with contextlib.suppress(OSError):
            for entry in list(os.scandir(path.parent)):
                if not (entry.name.startswith(start) and entry.name.endswith(suffix)):
                    continue
                pid = entry.name[len(start) :].partition("-")[0]
                if not (pid.isdecimal() and not _is_running(int(pid))):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)
    temporary = path.parent / f"{start}{os.getpid()}-{secrets.token_hex(4)}{suffix}"
    _unfinished[temporary] = os.getpid()
    return temporary


def remove_unfinished() -> None:
    """Remove what this process was writing when it was interrupted.

    Blocks clean up after themselves, but not when a signal comes just as one is left: the exception keeps it alive.
    """
    for path in [path for path, pid in list(_unfinished.items()) if pid == os.getpid()]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
        _unfinished.pop(path, None)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path of the same suffix in the same folder; on success it is synced and renamed.

    What an earlier, killed process left of the same name is removed.

    Args:
        path: The final name.

    Yields:
        A path that does not exist yet, for a library to write to.

    Raises:
        EgoposeError: The folder cannot be made or written, or the disk is full. The temporary file is removed
            and an older file of the final name stays as it was.
    """
    path = Path(path)
    # named before it exists: a signal in between leaves no file that nobody knows
    temporary = temporary_beside(path, f".tmp{path.suffix}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # a folder that cannot be written is refused before the work is done
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            temporary.unlink()
        except OSError as error:
            raise _write_error(path, error) from error
        try:
            yield temporary
            with open(temporary, "rb+") as stream:
                os.fsync(stream.fileno())
            # libraries may make private files; outputs follow the user's umask like any other
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
            os.replace(temporary, path)
        except OSError as error:
            if isinstance(error, EgoposeError):
                raise
            raise _write_error(path, error) from error
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
        _unfinished.pop(temporary, None)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file that takes the final name only when the block ends well.

    Args:
        path: The final name.
        mode: ``"wb"`` or ``"w"`` (UTF-8, newline unchanged).

    Yields:
        The open file.

    Raises:
        EgoposeError: As :func:`atomic_path`.
    """
    with atomic_path(path) as temporary:
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
        with open(temporary, mode, encoding=encoding, newline=newline) as stream:
            yield stream


def plain_json(value: Any) -> Any:
    """Builtins only, so that strict readers accept the result.

    Arrays become lists, NaN and infinity None, anything else its text.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if type(value) in (bool, int, float, str, type(None)):
        return value
    # numpy arrays and scalars, without importing numpy for files that hold none
    return plain_json(value.tolist()) if hasattr(value, "tolist") else str(value)


def write_json(path: str | os.PathLike[str], value: Any, *, indent: int | None = 2) -> None:
    """Write strict JSON atomically; non-finite numbers are refused by the encoder (use None).

    Args:
        path: The final name.
        value: Something the standard encoder takes.
        indent: As in :func:`json.dumps`.

    Raises:
        EgoposeError: The file cannot be written or the value holds NaN or infinity.
    """
    try:
        text = json.dumps(value, indent=indent, allow_nan=False)
    except ValueError as error:
        raise EgoposeError(f"{path}: cannot be written as JSON ({error})") from error
    with atomic_write(path, "w") as stream:
        stream.write(text + "\n")


def read_bytes(path: str | os.PathLike[str], max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Read a whole file of bounded size.

    Raises:
        EgoposeError: The file is absent, unreadable, a folder, or larger than ``max_bytes``.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise EgoposeError(f"{path}: {size} bytes; at most {max_bytes} are read at once, split the file")
        return path.read_bytes()
    except OSError as error:
        raise EgoposeError(f"{path}: cannot read ({error.strerror or error}); check the path") from error


def parse_json(data: bytes | str, where: str | os.PathLike[str], *, max_depth: int = MAX_JSON_DEPTH) -> Any:
    """Parse JSON as the field writes it: bare ``NaN`` and ``Infinity`` are read, duplicate keys refused.

    Args:
        data: The text.
        where: Name used in messages.
        max_depth: Nesting beyond this is refused before it is parsed.

    Raises:
        EgoposeError: Not UTF-8, not JSON (with line and column), nested too deep, or an object repeats a key.
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        raise EgoposeError(f"{where}: not UTF-8 text (byte {error.start}); expected a JSON file") from error
    if not text.strip():
        raise EgoposeError(f"{where}: the file is empty; expected JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    raise EgoposeError(f"{where}: key {key!r} stands twice in one object; remove one")
                seen.add(key)
        return result

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise EgoposeError(
            f"{where}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}); "
            "the file may be truncated, write or download it again"
        ) from error
    except RecursionError as error:
        raise EgoposeError(f"{where}: nested deeper than {max_depth} levels; expected a flat file") from error
    except EgoposeError:
        raise
    except ValueError as error:
        raise EgoposeError(f"{where}: holds a number that cannot be read ({error})") from error
    if _depth_exceeds(value, max_depth):
        raise EgoposeError(f"{where}: nested deeper than {max_depth} levels; expected a flat file")
    return value


def _depth_exceeds(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        deeper: list[Any] = []
        for item in level:
            children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
            deeper.extend(child for child in children if isinstance(child, dict | list))
        if not deeper:
            return False
        level = deeper
    return True


def read_json(path: str | os.PathLike[str], *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file; see :func:`parse_json` for what is accepted.

    Raises:
        EgoposeError: The file cannot be read, or is not the JSON that :func:`parse_json` accepts.
    """
    return parse_json(read_bytes(path, max_bytes), path)


def parse_yaml(text: str, where: str | os.PathLike[str], *, loader: Any = None, max_depth: int = MAX_JSON_DEPTH) -> Any:
    """Parse YAML without running anything; nesting and the growth through aliases are bounded.

    Args:
        text: The text.
        where: Name used in messages.
        loader: A subclass of :func:`yaml_loader` with further tags; None takes the plain one.
        max_depth: Nesting beyond this is refused before anything is built.

    Raises:
        EgoposeError: Not YAML, nested too deep, or a bomb of aliases.
    """
    import yaml

    loader = loader or yaml_loader()
    try:
        depth = 0
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.events.CollectionStartEvent):
                depth += 1
                if depth > max_depth:
                    raise EgoposeError(f"{where}: nested deeper than {max_depth} levels; expected a flat file")
            elif isinstance(event, yaml.events.CollectionEndEvent):
                depth -= 1
        value = yaml.load(text, Loader=loader)  # a safe loader, see above
    except EgoposeError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError, AttributeError, KeyError) as error:
        raise EgoposeError(f"{where}: not valid YAML ({' '.join(str(error).split())})") from error
    _check_aliases(value, where, max_depth)
    return value


def yaml_loader() -> Any:
    """The safe loader, in C where PyYAML has it."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_aliases(value: Any, where: str | os.PathLike[str], max_depth: int, limit: int = 5_000_000) -> None:
    """Aliases share what they name: written out, the document must stay small and end somewhere."""
    sizes: dict[int, int] = {}

    def size(node: Any, depth: int) -> int:
        if not isinstance(node, dict | list | tuple | set):
            return 1
        if depth > max_depth:
            raise EgoposeError(f"{where}: nested deeper than {max_depth} levels, or inside itself; expected flat data")
        if id(node) not in sizes:
            items = node.values() if isinstance(node, dict) else node
            sizes[id(node)] = 1 + sum(size(item, depth + 1) for item in items)
        return sizes[id(node)]

    total = size(value, 0)
    if total > limit:
        raise EgoposeError(f"{where}: its aliases stand for {total} values; at most {limit} are read")


def read_text(path: str | os.PathLike[str], *, max_bytes: int = 1 << 30) -> str:
    """Read a UTF-8 text file of bounded size.

    Raises:
        EgoposeError: The file cannot be read or is not UTF-8 text.
    """
    try:
        return read_bytes(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EgoposeError(f"{path}: not UTF-8 text (byte {error.start}); expected a text file") from error


def sha256_bytes(data: bytes) -> str:
    """Hexadecimal SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks.

    Raises:
        EgoposeError: The file cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise EgoposeError(f"{path}: cannot read ({error.strerror or error}); check the path") from error
