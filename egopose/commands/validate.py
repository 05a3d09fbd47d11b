"""``egopose validate``: check a submission before it is sent, and pack it once nothing is wrong."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from egopose.commands.output import emit
from egopose.errors import EgoposeError
from egopose.files import atomic_path, read_json
from egopose.io.ego_exo4d_files import (
    kind_of_document,
    read_body_file,
    read_hand_file,
    walk_body,
    walk_hand,
)
from egopose.io.ego_exo4d_values import frame_number
from egopose.metrics.protocols.findings import Expected, Report
from egopose.metrics.protocols.validate import validate_body_takes, validate_hand_takes
from egopose.takes import BodyTake, HandTake

PathLike = str | os.PathLike[str]
Kind = Literal["body", "hand"]


def read_index(path: PathLike, kind: Kind) -> dict[str, Expected]:
    """What is asked for, from any file that says so.

    Args:
        path: A ground truth file, the hand test list, a submission template, ``{uid: [frame, ...]}``, a list of take
            uids, or ``takes.json``.
        kind: The track.

    Raises:
        EgoposeError: The file is of the other track, or none of these.
    """
    document = read_json(path)
    if isinstance(document, list):
        return _index_of_list(document, path)
    if isinstance(document, dict) and document and all(isinstance(value, list) for value in document.values()):
        return {uid: Expected(frames=_frames(value, f"{path}: {uid}")) for uid, value in document.items()}
    if isinstance(document, dict) and kind_of_document(document) != "unknown":
        if kind == "body":
            return {uid: _expected_body(take) for uid, take in walk_body(document, str(path)).items()}
        return {uid: _expected_hand(take) for uid, take in walk_hand(document, str(path)).items()}
    raise EgoposeError(
        f"{path}: is no index: expected a ground truth or test list of the {kind} track, an object from take uid to a "
        "list of frames, a list of take uids, or takes.json"
    )


def _index_of_list(document: list[Any], path: PathLike) -> dict[str, Expected]:
    if document and all(isinstance(item, str) for item in document):
        return {uid: Expected() for uid in document}
    if document and all(isinstance(item, Mapping) and "take_uid" in item for item in document):
        return {str(item["take_uid"]): Expected(take_name=item.get("take_name")) for item in document}
    raise EgoposeError(f"{path}: is a list, but neither of take uids nor of takes with take_uid")


def _frames(value: list[Any], where: str) -> np.ndarray:
    numbers = [frame_number(str(item)) if isinstance(item, int | str) else None for item in value]
    if None in numbers:
        raise EgoposeError(f"{where}: {value[numbers.index(None)]!r} is no frame number")
    return np.unique(np.array(numbers, dtype=np.int64))


def _expected_body(take: BodyTake) -> Expected:
    return Expected(take.take_name, take.frames, xyz=take.xyz)


def _expected_hand(take: HandTake) -> Expected:
    return Expected(take.take_name, take.frames, hands=take.present | take.boxed, boxes=take.boxes)


def run_validate(kind: Kind, pred: PathLike, index: PathLike | None = None) -> Report:
    """Check a submission file.

    Args:
        kind: "body" or "hand".
        pred: The submission (JSON, or a zip with one JSON file in it).
        index: See :func:`read_index`.

    Raises:
        EgoposeError: The index cannot be read. What is wrong with the submission is in the report.
    """
    expected = None if index is None else read_index(index, kind)
    if not Path(pred).is_file():
        raise EgoposeError(f"{pred}: no such file; give the submission as JSON")
    if zipfile.is_zipfile(pred):
        raise EgoposeError(f"{pred}: is a zip file; check the JSON file before it is packed (--zip packs it)")
    try:
        if kind == "body":
            return validate_body_takes(read_body_file(pred), expected)
        return validate_hand_takes(read_hand_file(pred), expected)
    except EgoposeError as error:
        report = Report(kind)
        message = str(error)
        other = "hand" if kind == "body" else "body"
        code = "wrong-track" if f"this is a {other} file" in message else "unreadable"
        report.add("error", code, message + (f" (egopose validate {other})" if code == "wrong-track" else ""))
        return report


def pack(pred: PathLike, out: PathLike) -> None:
    """Write the submission zip: the JSON file alone, deflated, the same bytes every time.

    Raises:
        EgoposeError: It cannot be written.
    """
    pred = Path(pred)
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(pred.name, (1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o644 << 16
        with open(pred, "rb") as source, archive.open(entry, "w", force_zip64=True) as target:
            while chunk := source.read(1 << 20):
                target.write(chunk)


def _validate(kind: Kind, pred: Path, index: Path | None, out: Path | None, as_json: bool) -> int:
    report = run_validate(kind, pred, index)
    result = report.to_dict()
    text = report.text()
    if index is None:
        text += "\n(no index given: takes and frames were not checked against one)"
    if out is not None:
        if report.ok:
            pack(pred, out)
            text += f"\nwrote {out}"
        else:
            text += f"\n{out} was not written"
        result["zip"] = str(out) if report.ok else None
    emit(result, text, as_json)
    if report.ok:
        return 0
    first = next(finding for finding in report.findings if finding.severity == "error")
    print(f"egopose validate {kind}: {pred}: would be refused; first {first}", file=sys.stderr)
    return 1


_Zip = Annotated[Path | None, tyro.conf.arg(name="zip")]


def validate_body(
    pred: tyro.conf.Positional[Path],
    index: tyro.conf.Positional[Path | None] = None,
    *,
    zip_out: _Zip = None,
    json: bool = False,
) -> int:
    """Check a body submission: keys, take_name, shapes, NaN, frames, world coordinates in metres.

    Args:
        pred: The submission.
        index: What is asked for: ground truth, template, {uid: [frames]}, a list of uids, or takes.json.
        zip_out: Write the submission zip here when nothing is wrong.
        json: Print one JSON object.

    Returns:
        0 it would be accepted, 1 it would not.
    """
    return _validate("body", pred, index, zip_out, json)


def validate_hand(
    pred: tyro.conf.Positional[Path],
    index: tyro.conf.Positional[Path | None] = None,
    *,
    zip_out: _Zip = None,
    json: bool = False,
) -> int:
    """Check a hand submission: keys, shapes, NaN, hands asked for, camera coordinates (landscape) in metres.

    Args:
        pred: The submission.
        index: What is asked for: ground truth, the public test list, {uid: [frames]}, a list of uids, or takes.json.
        zip_out: Write the submission zip here when nothing is wrong.
        json: Print one JSON object.

    Returns:
        0 it would be accepted, 1 it would not.
    """
    return _validate("hand", pred, index, zip_out, json)
