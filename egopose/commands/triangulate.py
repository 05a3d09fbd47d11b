"""``egopose triangulate``: calibrated exo cameras in, 3D joints with error bars out."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from egopose.commands.output import Progress, emit, progress_bar
from egopose.commands.people import FOLLOWED, Persons, choose_persons, load_seen, load_trajectory, named
from egopose.config import load_config
from egopose.errors import EgoposeError, EgoposeWarning
from egopose.files import plain_json
from egopose.observations import Observations2D
from egopose.rig import Rig
from egopose.skeleton import BODY17
from egopose.triangulate import Take, TriangulateConfig, build_report, triangulate_take
from egopose.triangulate.errorbars import honest_bars
from egopose.triangulate.hands import hand_sides
from egopose.triangulate.take import Stage
from egopose.triangulate.windows import LONG_FRAMES, WINDOW_FRAMES, triangulate_windows


def load_rig(path: Path) -> Rig:
    """A calibration of any known format.

    Raises:
        EgoposeError: Unreadable, not a calibration, or not in metres.
    """
    from egopose.io import load

    with warnings.catch_warnings(record=True) as caught:
        # a wrong unit is refused below, and one line is enough for it
        warnings.simplefilter("always", EgoposeWarning)
        found = load(path)
    if not isinstance(found, Rig):
        raise EgoposeError(f"{path}: holds a {type(found).__name__}; expected calibrated cameras")
    unit = found.check_units()
    if unit is not None:
        raise EgoposeError(f"{path}: {unit} ('egopose convert {path} OUT.toml --option unit=mm' writes it in metres)")
    for item in caught:
        warnings.warn(item.message, stacklevel=2)
    return found


def run_triangulate(
    rig: Rig,
    observations: Observations2D,
    config: TriangulateConfig | None = None,
    progress: Progress | None = None,
    *,
    stages: Sequence[Stage] | None = None,
    persons: Persons | None = None,
    window: int | None = None,
    folder: Path | None = None,
) -> tuple[Take, dict[str, Any]]:
    """Triangulate a take whose views may be spelled differently from the cameras.

    Args:
        rig: The cameras.
        observations: 2D joints of one person.
        config: Settings.
        progress: Called with the share done.
        stages: What to do; None takes what the configuration asks for.
        persons: How the person was told apart, for the report.
        window: Frames solved at once; None solves long takes in windows and others whole.
        folder: Where finished windows are kept.

    Returns:
        The take and its report, what the stages found included.

    Raises:
        EgoposeError: The two do not belong together, or nobody is seen in any view.
    """
    from egopose.io.checks import align_views

    if not observations.seen.any():
        remarks = "; ".join(observations.provenance.get("notes", []))
        raise EgoposeError(
            "nobody was found in any view, there is nothing to triangulate; check the videos and the detector"
            + (f" ({remarks})" if remarks else "")
        )
    with warnings.catch_warnings(record=True) as caught:
        # they belong to the notes, which are printed with the result
        warnings.simplefilter("always", EgoposeWarning)
        # sizes that differ are named by the take, camera by camera
        aligned = align_views(rig, observations, drop=True, sizes=False)
    left_out = [str(item.message) for item in caught if issubclass(item.category, EgoposeWarning)]
    with warnings.catch_warnings():
        # the take keeps these as notes already
        warnings.simplefilter("ignore", EgoposeWarning)
        if stages is None and (window is not None or aligned.n_frames > LONG_FRAMES):
            take = triangulate_windows(
                rig, aligned, config, progress, window_frames=WINDOW_FRAMES if window is None else window, folder=folder
            )  # fmt: skip
        else:
            take = triangulate_take(rig, aligned, config, progress, stages=stages)
    take = honest_bars(take)
    told = ([], {}) if persons is None else ([*persons.notes], persons.found)
    report = build_report(take)
    notes = [*take.observations.provenance.get("notes", []), *told[0], *left_out, *report["notes"]]
    return take, {**report, "notes": notes, "found": plain_json({**told[1], **take.found})}


def save_labels(take: Take, out: Path) -> list[Path]:
    """Write the result; ``.json`` is the official automatic layout, with hands in a file of their own beside it.

    Returns:
        The files.

    Raises:
        EgoposeError: The take was not solved, or no format fits the suffix.
    """
    from egopose.io import save

    if take.pose is None or take.used is None:
        raise EgoposeError("this take was not solved; the stages must include a solve")
    if out.suffix.lower() != ".json":
        save(take.pose, out)
        return [out]
    files = {}
    if any(joint in BODY17.joints for joint in take.pose.skeleton.joints):
        files["body"] = out
    if hand_sides(take.pose.skeleton).keys() & {"left", "right"}:
        files["hand"] = out.with_suffix(".hand.json") if files else out
    options = {"rig": take.rig, "num_views": take.used.sum(axis=0)}
    for kind, path in files.items():
        save(take.pose, path, format="ego-exo4d-annotation", kind=kind, **options)
    if not files:
        raise EgoposeError(f"{out}: the skeleton {take.pose.skeleton.name!r} has no joint of the official layout")
    return list(files.values())


def summary(report: dict[str, Any], out: Path) -> str:
    """The report for a terminal."""
    whole, threshold = report["summary"], report["threshold"]
    status = ", ".join(f"{name} {100 * share:.1f} %" for name, share in report["status"].items())
    used = whole["residual_used_px"]["median"]
    sigma = (whole["sigma_mm"] or {}).get("median")
    lines = [
        f"{whole['frames']} frames x {whole['joints']} joints from {whole['views']} views -> {out}",
        f"threshold {_number(threshold['threshold_px'])} px ({threshold['source']}), "
        f"noise {_number(threshold['sigma_px'])} px, median residual {_number(used)} px",
        f"joints: {status}",
        f"median error bar {_number(sigma)} mm; bone lengths vary by {_number(whole['bone_variation_percent'])} %",
        "",
        f"{'camera':<14}{'used':>8}{'residual px':>13}{'bias u':>9}{'bias v':>9}",
    ]
    for row in report["cameras"]:
        share = row["used_share_of_seen"]
        lines.append(
            f"{row['name']:<14}{'-' if share is None else f'{100 * share:.1f} %':>8}"
            f"{_number(row['residual_all_px']['median']):>13}{_number(row['bias_u_px']):>9}{_number(row['bias_v_px']):>9}"
        )
    return "\n".join([*lines, *[f"note: {note}" for note in report["notes"]]])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def triangulate(
    rig: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RIG")],
    keypoints: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="KEYPOINTS")],
    /,
    *,
    out: Path,
    config: str | None = None,
    raw: bool = False,
    threshold: str = "auto",
    refine_cameras: bool = False,
    protocol: str = "egopose",
    detector: str = "blazepose",
    model: Path | None = None,
    undistorted: bool = False,
    fps: float | None = None,
    people: int = 1,
    wearer: Path | None = None,
    wearer_start: float = 0.0,
    window: int | None = None,
    report: Path | None = None,
    json: bool = False,
) -> None:
    """Triangulate 2D joints of calibrated cameras, or the cameras' videos, into 3D joints with error bars.

    Args:
        rig: Calibration of the cameras, any known format.
        keypoints: 2D joints of any known format, or a folder with one video per camera.
        out: Result, format by suffix (.npz, .parquet, .csv, .trc, .c3d, .json for the official automatic layout).
        config: YAML file or preset with further settings.
        raw: Solve each frame on its own: no time offsets, sides, hand votes or smoothing.
        threshold: Largest residual of an agreeing view in pixels, or auto.
        refine_cameras: Refine the cameras' poses from the keypoints first.
        protocol: egopose, or ego-exo4d for the rules of the official automatic annotation.
        detector: 2D backend for videos: blazepose, onnx, or a plug-in.
        model: Model file for the onnx backend.
        undistorted: The 2D joints belong to undistorted images.
        fps: Frame rate when the 2D joints carry none.
        people: Most people to triangulate; more than one gives a file each, OUT_person_1 the most complete.
        wearer: Poses of the head-worn camera: only the person who wears it is triangulated.
        wearer_start: Time of frame 0 on the clock of those poses, seconds.
        window: Frames solved at once. By default takes beyond 12,000 frames are solved in windows of 3,000; finished
            windows are kept in OUT.windows until the result is written, so that an interrupted run goes on.
        report: Also write a report: an .html page with a .json beside it.
        json: Print the report as one JSON object.
    """
    settings: dict[str, Any] = {}
    if raw:
        settings["raw"] = True
    if refine_cameras:
        settings["refine_cameras"] = True
    if threshold != "auto":
        try:
            settings["threshold_px"] = float(threshold)
        except ValueError:
            raise EgoposeError(f"--threshold is {threshold!r}; expected a number of pixels or auto") from None
    if people < 1:
        raise EgoposeError(f"--people is {people}; expected at least one")
    options = load_config(TriangulateConfig, config, **settings)
    cameras = load_rig(rig)
    with progress_bar("triangulate") as progress:
        path = None if wearer is None else load_trajectory(wearer)
        seen = load_seen(
            keypoints, people=people if path is None else max(people, FOLLOWED), detector=detector,
            options=None if model is None else {"model": str(model)}, progress=progress,
        )  # fmt: skip
        if undistorted:
            seen = seen.replace(undistorted=True)
        if fps is not None:
            seen = seen.replace(fps=fps)
        if protocol == "ego-exo4d":
            from egopose.triangulate.official import triangulate_official

            stages: Sequence[Stage] | None = (triangulate_official,)
        elif protocol == "egopose":
            stages = None
        else:
            raise EgoposeError(f"no protocol is named {protocol!r}; there are: egopose, ego-exo4d")
        persons = choose_persons(
            cameras, seen, people=people, wearer=path, start_s=wearer_start, progress=progress
        )  # fmt: skip
        several = len(persons.observations) > 1
        results = []
        for number, observations in zip(persons.numbers, persons.observations):
            target = named(out, number, several)
            folder = target.with_name(f"{target.name}.windows")
            take, numbers = run_triangulate(
                cameras, observations, options, progress, stages=stages, persons=persons, window=window, folder=folder
            )
            written = save_labels(take, target)
            shutil.rmtree(folder, ignore_errors=True)
            if report is not None:
                from egopose.view.triangulation_report import write_triangulation_report

                page = named(report.with_suffix(".html"), number, several)
                write_triangulation_report(numbers, page, page.with_suffix(".json"))
            results.append({"out": str(target), "files": [str(file) for file in written], **numbers})
    text = "\n\n".join(summary(numbers, Path(numbers["out"])) for numbers in results)
    emit({"people": results} if several else results[0], text, json)
