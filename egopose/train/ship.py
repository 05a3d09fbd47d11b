"""From the best checkpoint to weights that ship: calibrated, halved when equal, with a card and a log."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from egopose.errors import EgoposeError
from egopose.files import atomic_write, read_text
from egopose.model.headmotion import canonical_from_world
from egopose.model.network import EgoPoseNet
from egopose.model.weights import load_weights, save_weights
from egopose.train.calibrate import Errors, coverage, fitted_factors
from egopose.train.evaluate import BODY, held_out_scores, network_sequences
from egopose.train.windows import MotionClip, load_motion

HALF_TOLERANCE_CM = 0.02
"""float16 ships when it moves no held-out score by more than this."""

_ALL = ("body", "hands", "images")
TRAINED = {"motion": ("body",), "hands": ("body",), "frames": ("body",), "images": _ALL, "all": _ALL, "join": _ALL}


def stage_record(folder: Path) -> dict[str, Any]:
    """Steps and seconds of a stage, from its log."""
    last: dict[str, Any] = {}
    for line in read_text(folder / "log.jsonl").splitlines():
        entry = json.loads(line)
        if entry["kind"] == "train":
            last = entry
    return {"steps": last.get("step", 0), "seconds": last.get("seconds", 0.0)}


def _earlier(path: Path, called: str) -> dict[str, Any]:
    """Records of the rounds before this one, from the notes of the weights that shipped after them."""
    if not path.exists():
        return {}
    stages: dict[str, Any] = load_weights(path).notes.get("stages", {})
    return {name: record for name, record in stages.items() if not name.endswith(f", {called}")}


def calibrate_body(model: EgoPoseNet, clips: Sequence[MotionClip]) -> dict[str, float]:
    """Set the body rows of the network's sigma factors from held-out motion; gives the coverage reached."""
    import torch

    factor = model.sigma_factor
    assert isinstance(factor, torch.Tensor)
    factor.fill_(1.0)
    rows = []
    for clip, sequence in network_sequences(model, clips):
        assert sequence.axis_sigma is not None
        error, sigma = sequence.xyz[:, BODY].astype(float) - clip.joints[:, BODY], sequence.axis_sigma[:, BODY, 0]
        # axes of the head frame in the world, as columns
        axes = canonical_from_world(clip.T_world_camera)[:, None, :3, :3]
        unseen = np.zeros(sigma.shape, dtype=bool)
        rows.append((error, sigma, np.broadcast_to(axes, (*error.shape, 3)), unseen, unseen))
    found = Errors(*(np.concatenate(values) for values in zip(*rows, strict=True)))
    factors = fitted_factors(found)
    factor[0, BODY] = torch.from_numpy(factors[0])
    return {f"coverage{int(100 * s)}": coverage(found.error, found.frame_sigma(factors), s) for s in (0.5, 0.9)}


def halfway(before: Path, run: Path, new: Sequence[str] = ()) -> EgoPoseNet:
    """The network halfway between some weights and where a run that started from them stands.

    What a run gains stays where it lies, what it loses comes back in part (Wortsman et al., Model soups, 2022).

    Args:
        before: Weights file.
        run: Folder of the run; its last averaged weights count, not those that scored best.
        new: Parts that nothing was learnt for before the run; of these the run's weights stay as they are.

    Raises:
        EgoposeError: The run left no checkpoint that can be read, or is of another network.
    """
    import torch

    from egopose.train.loop import CHECKPOINT

    weights = load_weights(before)
    path = run / CHECKPOINT
    try:
        after = torch.load(path, map_location="cpu", weights_only=True)["ema"]
        mixed = {
            name: 0.5 * (value.float() + after[name])
            if value.dtype.is_floating_point and not name.startswith(tuple(new))
            else after[name]
            for name, value in weights.state.items()
        }
    except Exception as error:
        raise EgoposeError(f"{path}: cannot be averaged with {before} ({error}); finish the run first") from error
    model = weights.model()
    model.load_state_dict(mixed)
    return model


def ship(
    work: Path, stages: Sequence[str], folder: Path, name: str, called: str, *, motion: Path,
    rendered: Path | None = None, bars: Path | None = None, before: Path | None = None, new: Sequence[str] = (),
) -> str:  # fmt: skip
    """Write the weights of the last stage reached into the package.

    Args:
        work: Folder of the stages' runs.
        stages: Those that have weights, in order.
        folder: Where shipped weights live; those of this name tell of the rounds before.
        name: Size.
        called: What this round is called, "third round".
        motion: Held-out motion.
        rendered: Held-out rendered clips, which are scored.
        bars: More of them, which help to set the error bars and nothing else.
        before: Weights that the last stage started from, to ship what lies halfway (:func:`halfway`) instead of the
            stage's best.
        new: Parts that are not averaged with those.

    Returns:
        What was written, one paragraph.

    Raises:
        EgoposeError: No stage has weights yet.
    """
    if not stages:
        raise EgoposeError(f"{work}: no stage has weights yet; train first")
    stage = stages[-1]
    records = {done: stage_record(work / done) for done in stages}
    if before is None:
        weights = load_weights(work / stage / "best.safetensors")
        model, picked = weights.model(), weights.notes.get("steps")
    else:
        model, picked = halfway(before, work / stage, new), records[stage]["steps"]
    clips = load_motion(motion)
    scores = _calibrated(model, clips, rendered if stage != "motion" else None, bars)
    notes = {
        "trained": list(TRAINED[stage]),
        "stages": {
            **_earlier(folder / f"{name}.safetensors", called),
            **{f"{done}, {called}": record for done, record in records.items()},
        },
        "picked_at_step": picked,
        "halfway_from": None if before is None else load_weights(before).sha256,
        "held_out": _rounded(scores),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    return f"{_written(folder, name, model, clips, notes, scores)}, after stage {stage}; {scores}"


def recalibrate(
    folder: Path, name: str, *, motion: Path, rendered: Path | None = None, bars: Path | None = None
) -> str:
    """Set the error bars of shipped weights anew; nothing else in them changes.

    Args:
        folder: Where shipped weights live.
        name: Size.
        motion: Held-out motion.
        rendered: Held-out rendered clips, which are scored.
        bars: More of them, which help to set the error bars and nothing else.

    Returns:
        What was written, one paragraph.

    Raises:
        EgoposeError: The weights read images and no rendered clips are given.
    """
    path = folder / f"{name}.safetensors"
    weights = load_weights(path)
    images = "images" in weights.notes.get("trained", ())
    if images and rendered is None:
        raise EgoposeError(f"{path}: these weights read images; setting their error bars takes rendered clips as well")
    model, clips = weights.model(), load_motion(motion)
    scores = _calibrated(model, clips, rendered if images else None, bars)
    notes = {**weights.notes, "held_out": _rounded(scores)}
    return f"{_written(folder, name, model, clips, notes, scores)}; {scores}"


def _calibrated(
    model: EgoPoseNet, clips: Sequence[MotionClip], rendered: Path | None, bars: Path | None
) -> dict[str, float]:
    """Set all error bars of a network; gives its scores on held-out people."""
    calibration = calibrate_body(model, clips)
    scores: dict[str, float] = {**held_out_scores(model, clips), **calibration}
    if rendered is not None:
        from egopose.train.rendered_files import load_rendered
        from egopose.train.rendered_scores import calibrate_rendered, rendered_scores

        held = load_rendered(rendered)
        scores.update(calibrate_rendered(model, held if bars is None else [*held, *load_rendered(bars)]))
        scores.update({f"rendered_{k}": v for k, v in rendered_scores(model, held).items()})
    return scores


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {k: round(float(v), 4) for k, v in scores.items()}


def _written(
    folder: Path, name: str, model: EgoPoseNet, clips: Sequence[MotionClip], notes: dict[str, Any],
    scores: dict[str, float],
) -> str:  # fmt: skip
    """Write weights and their card; says what was written."""
    path = folder / f"{name}.safetensors"
    half = _half_is_equal(model, clips, scores, folder)
    digest = save_weights(path, model, notes=notes, half=half)
    with atomic_write(folder / f"{name}.md", "w") as stream:
        stream.write(model_card(name, notes, path.stat().st_size, digest, half))
    return f"{path}: {path.stat().st_size} bytes, {'float16' if half else 'float32'}"


def _half_is_equal(model: EgoPoseNet, clips: Sequence[MotionClip], scores: dict[str, float], folder: Path) -> bool:
    trial = folder / ".half.safetensors"
    try:
        save_weights(trial, model, half=True)
        halved = held_out_scores(load_weights(trial).model(), clips)
    finally:
        trial.unlink(missing_ok=True)
    return all(abs(halved[k] - scores[k]) <= HALF_TOLERANCE_CM for k in halved)


def training_log(work: Path, stages: Sequence[str], called: str, machine: str, page: Path) -> None:
    """Write what each stage took and how its held-out score fell; sections of other rounds stay.

    Args:
        work: Folder of the stages' runs.
        stages: Those that have weights, in order.
        called: What this round is called, "third round".
        machine: On which it ran.
        page: Markdown file.
    """
    parts = [
        "# Training log",
        "Written by `tools/train_default.py --ship` from the runs' own logs. Scores are of held-out subjects, body-12 "
        "in cm without alignment unless the name says otherwise: `full` or no prefix is offline, `k0` or `causal` "
        "causal; `A` are exact clips, `B-daz` those on a common figure.",
    ]
    if page.exists():
        sections = read_text(page).strip().split("\n\n## ")[1:]
        parts += [f"## {text}" for text in sections if not text.partition("\n")[0].endswith(f", {called}")]
    for stage in stages:
        run = work / stage
        record = stage_record(run)
        lines = [json.loads(line) for line in read_text(run / "log.jsonl").splitlines()]
        looks = [line for line in lines if line["kind"] == "held_out"]
        parts.append(
            f"## Stage {stage}, {called}\n\n{record['steps']} steps, {record['seconds'] / 60:.0f} minutes of training "
            f"on {machine}."
        )
        if looks:
            names = [key for key in looks[-1] if key not in ("kind", "step", "seconds")]
            rows = [["step", "minutes", *names], ["---"] * (len(names) + 2)]
            for look in looks:
                values = [f"{look[key]:.2f}" if key in look else "" for key in names]
                rows.append([str(look["step"]), f"{look['seconds'] / 60:.0f}", *values])
            parts.append("\n".join("| " + " | ".join(row) + " |" for row in rows))
    with atomic_write(page, "w") as stream:
        stream.write("\n\n".join(parts) + "\n")


def model_card(name: str, notes: dict[str, Any], size: int, digest: str, half: bool) -> str:
    """The card beside the weights, from what is in them."""
    trained = notes["trained"]
    held = notes["held_out"]
    seen = "images" in trained
    stages = "\n".join(
        f"- {s}: {r['steps']} steps, {r['seconds'] / 60:.0f} minutes" for s, r in notes["stages"].items()
    )
    before = notes.get("halfway_from")
    halfway_from = (
        f"\n\nThe last round's end and the weights it started from (`{before}`), averaged half and half."
        if before
        else ""
    )
    numbers = "\n".join(f"| {key} | {value:.3f} |" for key, value in sorted(held.items()))
    pictures = " Rendered frames: a CC0 body, procedural fingers, lenses, rooms and light." if seen else ""
    limits = (
        "Images: trained on rendered frames of real motion only. On real video expect more error than the table says;\n"
        "gloves, objects in the hand, other people's hands and dim rooms were hardly or never seen in training."
        if seen
        else "Images: the image and hand encoders are not trained in this file. Prediction then uses the head's\n"
        "motion alone, says so in the provenance, and reports finger joints as MISSING."
    )
    return f"""# {name}

Network weights of egopose, {size / 1e6:.1f} MB, {"float16" if half else "float32"}, tensors hash `{digest}`.

Trained parts: {", ".join(trained)}.{halfway_from}

## Data and licence

Head poses and joints of the CMU Graphics Lab Motion Capture Database, mocap.cs.cmu.edu, created with funding from NSF
EIA-0196217: about 34 minutes of which 13 are exact and the rest retargeted; augmented by mirror, speed, body size and
proportions, and head mount.{pictures}
No SMPL, MANO, AMASS or other non-commercial source. The weights are under the licence of the package.

## How long

On {notes["machine"]}:

{stages}

## Held-out subjects

People who were never trained on (four subjects, three minutes: level walking of three, karate and other of one);
body12 are the joints from shoulders to ankles, no alignment, trajectory alone unless a line says otherwise. The weights
were picked among checkpoints, and the error bars scaled, on these same subjects, so the numbers are a little too good.

| measure | value |
|---|---|
{numbers}

## Limits

{limits}

Motion: half an hour of walking, salsa, climbing, jumping, sport gestures. Sitting, lying, crawling, cycling, children
and wheelchairs are not in it. The floor is assumed level and known, or else its height is guessed from the head.
Where a limb cannot follow from the head's motion, the prediction is a mean with a wide error bar.
"""
