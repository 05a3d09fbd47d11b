"""The registry of formats: one file per format, found by content, ambiguity refused."""

from __future__ import annotations

import inspect
import numbers
import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egopose.errors import EgoposeError, EgoposeWarning

HEAD_BYTES = 1 << 16
Sniff = Callable[[Path, bytes], bool]


@dataclass
class Format:
    """One file format.

    Attributes:
        name: What ``format=`` takes.
        kinds: Names of the types it reads or writes, such as ``("Rig",)``.
        suffixes: File name endings; they choose a writer, a reader is chosen by content.
        looks_for: What the content must show, for messages.
        description: One line for people.
        sniff: Cheap test of a path and its first bytes (empty for a folder); None when the format is only written.
        read: ``read(path, **options)``.
        write: ``write(obj, path, **options)``.
        writes: Names of the types that it writes.
    """

    name: str
    description: str
    kinds: tuple[str, ...]
    suffixes: tuple[str, ...] = ()
    looks_for: str = ""
    sniff: Sniff | None = None
    read: Callable[..., Any] | None = None
    write: Callable[..., None] | None = None
    writes: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, list[str]]:
        """Names of the options of the reader and the writer."""
        return {
            verb: [] if function is None else _options(function)
            for verb, function in (("read", self.read), ("write", self.write))
        }


REGISTRY: dict[str, Format] = {}


def reader(
    name: str, *, kinds: tuple[str, ...], suffixes: tuple[str, ...], looks_for: str, description: str, sniff: Sniff
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as the reader of a format; it takes a path and keyword-only options."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        entry = REGISTRY.setdefault(name, Format(name, description, kinds, suffixes))
        entry.description, entry.looks_for, entry.sniff, entry.read = description, looks_for, sniff, function
        entry.kinds = tuple(dict.fromkeys((*kinds, *entry.kinds)))
        entry.suffixes = tuple(dict.fromkeys((*suffixes, *entry.suffixes)))
        return function

    return add


def writer(
    name: str, *, kinds: tuple[str, ...], suffixes: tuple[str, ...], description: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as the writer of a format; it takes an object, a path and keyword-only options."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        entry = REGISTRY.setdefault(name, Format(name, description, kinds, suffixes))
        entry.write, entry.writes = function, kinds
        entry.kinds = tuple(dict.fromkeys((*entry.kinds, *kinds)))
        entry.suffixes = tuple(dict.fromkeys((*suffixes, *entry.suffixes)))
        return function

    return add


def _options(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def _check_options(entry: Format, function: Callable[..., Any], options: Mapping[str, Any], verb: str) -> None:
    known = _options(function)
    unknown = [name for name in options if name not in known]
    if unknown:
        takes = f"it takes: {', '.join(known)}" if known else "it takes none"
        raise EgoposeError(f"format {entry.name!r} has no option {unknown[0]!r} when {verb}; {takes}")
    for name, value in options.items():
        wanted = str(inspect.signature(function).parameters[name].annotation)
        if not _fits(value, wanted):
            raise EgoposeError(f"option {name} of format {entry.name!r} is {value!r}; expected {wanted}")


def _fits(value: Any, annotation: str) -> bool:
    """Whether a value (possibly typed on a command line) is of the annotated type; shapes are the reader's business."""
    tokens = set(re.findall(r"\w+", annotation))
    if tokens & {"Any", "ArrayLike"}:
        return True
    if value is None or isinstance(value, bool):
        return type(value).__name__.removesuffix("Type") in tokens
    if isinstance(value, numbers.Integral):
        return bool(tokens & {"int", "float"})
    return any(base.__name__ in tokens for base in type(value).__mro__)


def get_format(name: str) -> Format:
    """A format by name.

    Raises:
        EgoposeError: No format has that name.
    """
    try:
        return REGISTRY[name]
    except KeyError:
        raise EgoposeError(f"no format is named {name!r}; there are: {', '.join(sorted(REGISTRY))}") from None


def formats() -> list[Format]:
    """All formats, by name."""
    return [REGISTRY[name] for name in sorted(REGISTRY)]


def _head(path: Path) -> bytes:
    if path.is_dir():
        return b""
    try:
        with open(path, "rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError as error:
        raise EgoposeError(f"{path}: cannot read ({error.strerror or error}); check the path") from error


def detect(path: str | os.PathLike[str]) -> Format:
    """The one format whose content test accepts a path.

    Raises:
        EgoposeError: Nothing is there, the file is empty, no format accepts it, or several do.
    """
    path = Path(path)
    if not path.exists():
        raise EgoposeError(f"{path}: there is no such file or folder; check the path")
    head = _head(path)
    if not path.is_dir() and not head.strip():
        raise EgoposeError(f"{path}: the file is empty; nothing can be read from it")
    hits = [entry for entry in formats() if entry.sniff is not None and _accepts(entry, path, head)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        names = " and ".join(repr(entry.name) for entry in hits)
        raise EgoposeError(f"{path}: the content fits the formats {names}; give format= (--format) to choose one")
    wanted = [e for e in formats() if e.sniff is not None and (path.is_dir() or path.suffix.lower() in e.suffixes)]
    if path.is_dir():
        wanted = [e for e in wanted if "/" in e.suffixes]
    wanted = wanted or [e for e in formats() if e.sniff is not None]
    looked = "; ".join(f"{entry.name} ({entry.looks_for})" for entry in wanted)
    what = "folder" if path.is_dir() else f"{path.suffix or 'nameless'} file"
    raise EgoposeError(
        f"{path}: the content of this {what} fits no known format; looked for {looked}; the file may be damaged, "
        "or give format= (--format)"
    )


def _accepts(entry: Format, path: Path, head: bytes) -> bool:
    assert entry.sniff is not None
    try:
        return bool(entry.sniff(path, head))
    except OSError as error:
        raise EgoposeError(f"{path}: cannot read ({error.strerror or error}); check the path") from error


def load(path: str | os.PathLike[str], *, format: str | None = None, **options: Any) -> Any:
    """Read any known file or folder.

    Args:
        path: What to read; the format is found from its content.
        format: Name of the format, when the content alone does not tell (see :func:`formats`).
        **options: Options of that format's reader.

    Returns:
        A ``Rig``, ``Observations2D``, ``PoseSequence`` or ``Trajectory``; files with several takes give a
        dict from take uid to ``PoseSequence`` unless ``take=`` picks one.

    Raises:
        EgoposeError: One line that says what is wrong with the file and what was expected.
    """
    if not isinstance(path, str | os.PathLike):
        raise EgoposeError(f"load: the path is a {type(path).__name__}; expected the name of a file or folder")
    path = Path(path)
    if format is None:
        entry = detect(path)
    else:
        entry = get_format(format)
        if not path.exists():
            raise EgoposeError(f"{path}: there is no such file or folder; check the path")
    if entry.read is None:
        raise EgoposeError(f"format {entry.name!r} can be written but not read")
    _check_options(entry, entry.read, options, "reading")
    return entry.read(path, **options)


def save(obj: Any, path: str | os.PathLike[str], *, format: str | None = None, **options: Any) -> None:
    """Write an object; the suffix chooses the format, the file appears complete or not at all.

    Args:
        obj: A ``Rig``, ``Observations2D``, ``PoseSequence`` or ``Trajectory``, or a dict of takes.
        path: The file; its suffix chooses the format unless ``format`` does.
        format: Name of the format (see :func:`formats`).
        **options: Options of that format's writer.

    Raises:
        EgoposeError: No format writes that type to that suffix, or the file cannot be written.
    """
    path = Path(path)
    kind = _kind(obj)
    if format is not None:
        entry = get_format(format)
        if entry.write is None:
            raise EgoposeError(f"format {entry.name!r} can be read but not written")
        if kind not in entry.writes:
            raise EgoposeError(f"format {entry.name!r} writes {' or '.join(entry.writes)}; this is a {kind}")
    else:
        fits = [e for e in formats() if kind in e.writes and path.suffix.lower() in e.suffixes]
        if len(fits) != 1:
            able = ", ".join(f"{e.name} ({' '.join(e.suffixes)})" for e in formats() if kind in e.writes)
            if fits:
                names = " and ".join(repr(e.name) for e in fits)
                raise EgoposeError(f"{path}: a {kind} can be written here as {names}; give format= to choose one")
            raise EgoposeError(
                f"{path}: no format writes a {kind} to the suffix {path.suffix!r}; "
                + (f"there are: {able}" if able else "nothing writes that type")
            )
        entry = fits[0]
    assert entry.write is not None
    _check_options(entry, entry.write, options, "writing")
    entry.write(obj, path, **options)


def _kind(obj: Any) -> str:
    if isinstance(obj, Mapping):
        return "dict"
    return next((base.__name__ for base in type(obj).__mro__ if base.__name__ in _KINDS), type(obj).__name__)


_KINDS = ("Rig", "Observations2D", "PoseSequence", "Trajectory")


def note(message: str) -> None:
    """Warn of something that was read but deserves a look."""
    warnings.warn(message, EgoposeWarning, stacklevel=4)
