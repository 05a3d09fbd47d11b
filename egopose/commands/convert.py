"""``egopose convert``: read any known file, write another format."""

from __future__ import annotations

import json as json_module
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from egopose.commands.output import emit
from egopose.errors import EgoposeError, EgoposeWarning
from egopose.io import formats, load, save
from egopose.io.registry import detect, get_format
from egopose.observations import Observations2D
from egopose.pose import PoseSequence
from egopose.skeleton import get_skeleton


def parse_options(pairs: Sequence[str], what: str) -> dict[str, Any]:
    """``["fps=30", "part=2d"]`` as a dict; values that read as JSON (numbers, true, null, lists) become that.

    Raises:
        EgoposeError: A pair has no ``=``, or a name stands twice.
    """
    result: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise EgoposeError(f"{what} {pair!r}; expected NAME=VALUE such as fps=30")
        if name in result:
            raise EgoposeError(f"{what} {name!r} stands twice; give it once")
        try:
            result[name] = json_module.loads(text)
        except ValueError:
            result[name] = text
    return result


def describe(obj: Any) -> str:
    """One line about what was read."""
    if isinstance(obj, Mapping):
        frames = sum(pose.n_frames for pose in obj.values())
        return f"{len(obj)} takes, {frames} frames"
    return repr(obj)


def run_convert(
    source: str | Path,
    target: str | Path,
    *,
    from_format: str | None = None,
    to_format: str | None = None,
    read_options: Mapping[str, Any] | None = None,
    write_options: Mapping[str, Any] | None = None,
    skeleton: str | None = None,
) -> dict[str, Any]:
    """Read ``source``, write ``target``.

    Args:
        source: A file or folder of a known format.
        target: The file to write; its suffix chooses the format.
        from_format: Name of the source's format, when its content does not tell.
        to_format: Name of the target's format, when its suffix does not tell.
        read_options: Options of the reader.
        write_options: Options of the writer.
        skeleton: Write these joints (poses and keypoints only).

    Returns:
        What was done: source, target, formats, content.

    Raises:
        EgoposeError: As :func:`egopose.load` and :func:`egopose.save`.
    """
    source, target = Path(source), Path(target)
    entry = get_format(from_format) if from_format else detect(source)
    obj = load(source, format=entry.name, **(read_options or {}))
    if skeleton is not None:
        wanted = get_skeleton(skeleton)
        if isinstance(obj, Mapping):
            obj = {uid: pose.to_skeleton(wanted) for uid, pose in obj.items()}
        elif isinstance(obj, PoseSequence | Observations2D):
            obj = obj.to_skeleton(wanted)
        else:
            raise EgoposeError(f"{source}: a {type(obj).__name__} has no joints; leave out the skeleton")
    save(obj, target, format=to_format, **(write_options or {}))
    return {
        "source": str(source),
        "format": entry.name,
        "target": str(target),
        "bytes": target.stat().st_size,
        "content": describe(obj),
    }


def _list_text() -> str:
    lines = []
    for entry in formats():
        verbs = "/".join(verb for verb, have in (("read", entry.read), ("write", entry.write)) if have)
        suffixes = " ".join("folder" if suffix == "/" else suffix for suffix in entry.suffixes)
        lines.append(f"{entry.name:<26} {verbs:<10} {suffixes:<22} {entry.description}")
        for verb, names in entry.options.items():
            if names:
                lines.append(f"{'':<26} {verb} options: {', '.join(names)}")
    return "\n".join(lines)


def convert(
    source: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="SOURCE")] = None,
    target: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="TARGET")] = None,
    *,
    format: str | None = None,
    to: str | None = None,
    option: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = (),
    write_option: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = (),
    skeleton: str | None = None,
    list: bool = False,
    json: bool = False,
) -> int:
    """Convert between formats of calibrations, 2D keypoints, 3D joints and trajectories.

    Args:
        source: A file or folder; its format is found from its content.
        target: The file to write; its suffix chooses the format.
        format: Format of the source, when its content fits several.
        to: Format of the target, when its suffix fits several.
        option: Options of the reader, such as fps=30 or size=1920x1080.
        write_option: Options of the writer, such as unit=mm.
        skeleton: Write these joints, such as body17.
        list: List all formats with their options and stop.
        json: Print one JSON object.
    """
    if list:
        rows = [
            {"name": e.name, "kinds": e.kinds, "suffixes": e.suffixes, "read": e.read is not None,
             "write": e.write is not None, "options": e.options, "description": e.description}
            for e in formats()
        ]  # fmt: skip
        emit({"formats": rows}, _list_text(), json)
        return 0
    if source is None or target is None:
        raise EgoposeError("give a source and a target, or --list to see the formats")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EgoposeWarning)
        result = run_convert(
            source,
            target,
            from_format=format,
            to_format=to,
            read_options=parse_options(option, "--option"),
            write_options=parse_options(write_option, "--write-option"),
            skeleton=skeleton,
        )
    result["warnings"] = [str(w.message) for w in caught]
    text = f"{result['content']}\n{result['format']} -> {result['target']} ({result['bytes']} bytes)"
    emit(result, "\n".join([*(f"note: {w}" for w in result["warnings"]), text]), json)
    return 0
