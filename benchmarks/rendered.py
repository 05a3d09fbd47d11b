"""Accuracy on rendered clips of held-out people: what each input is worth, in view and out of view, and through lenses.

Usage: python benchmarks/rendered.py --rendered FOLDER --motion-data FOLDER [--weights nano] [--tables-only]

FOLDER of --rendered holds train_more/ (the simple predictors learn from its labels), val/ (scored; it also chose the
weights and, with the clips in bars/, their error bars) and test/ (other clips in larger images, scored alone). The lens
rows render the same motion, body and room through three lenses.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, put_table, store, stored

PAGE, MARK = "accuracy.md", "rendered"
LENS_CLIPS, LENS_SIDE = 120, 384
ALONE, BOTH = "(c) head poses, no images", "(e) images and head poses"
CAUSAL = "(e) the same, causal"
SEEN_ALL, SEEN_NONE = "in view of all three", "in view of none"
Said = Iterator[tuple[Any, np.ndarray, Any]]
"""Clip, joints (T, 59, 3) in camera axes (NaN where nothing is said), sequence or None."""


def as_motion(clip: Any) -> Any:
    """The same clip without its images."""
    from egopose.train.windows import MotionClip

    feet = np.full((len(clip), 2), -1, np.int8)
    return MotionClip(clip.name, clip.subject, "rendered", clip.times_s, clip.T_world_camera, clip.joints, feet)


def simple(predict: Any, clips: Sequence[Any]) -> Said:
    """A simple predictor from head poses."""
    from egopose import rigid

    for clip in clips:
        said = np.full(clip.joints.shape, np.nan)
        said[:, :17] = rigid.transform_points(rigid.invert(clip.T_world_camera), predict(as_motion(clip)))
        yield clip, said, None


def network(
    predictor: Any, clips: Sequence[Any], images: bool, poses: bool, mode: Any = "offline", smooth: bool = False
) -> Said:
    """The network with some of its inputs."""
    from egopose import Clip, Trajectory

    for clip in clips:
        trajectory = Trajectory(clip.times_s, clip.T_world_camera, max_gap_s=1e9) if poses else None
        if images:
            source = Clip(list(clip.images), clip.camera, trajectory, times_s=clip.times_s)
        else:
            source = Clip(trajectory=trajectory)
        sequence = predictor.predict(source, mode=mode, space="camera", floor_z=0.0, smooth=smooth)
        yield clip, sequence.xyz.astype(np.float64), sequence


def mean(parts: Sequence[np.ndarray]) -> float:
    """Mean of what is finite; NaN when nothing is."""
    values = np.concatenate([np.ravel(p) for p in parts]) if parts else np.zeros(0)
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def measures(said: Said) -> dict[str, Any]:
    """All columns of a row."""
    from egopose import rigid
    from egopose.metrics import jitter, mpjpe, mpjve, pa_mpjpe
    from egopose.skeleton import BODY12, BODY17_HANDS
    from egopose.train.calibrate import coverage
    from egopose.train.rendered import hands_shown
    from egopose.train.rendered_scores import WRIST, hands

    inner = BODY17_HANDS.indices(BODY12.joints)
    rows: dict[str, list[np.ndarray]] = {}
    joints: dict[str, list[np.ndarray]] = {"in": [], "out": []}
    spread: dict[str, list[np.ndarray]] = {"error": [], "sigma": [], "seen": []}
    for clip, xyz, sequence in said:
        true = rigid.transform_points(rigid.invert(clip.T_world_camera), clip.joints)
        fps = (len(clip) - 1) / (clip.times_s[-1] - clip.times_s[0])
        seen = clip.visible[:, inner] == 1
        world = rigid.transform_points(clip.T_world_camera, xyz)
        distance = np.linalg.norm(xyz[:, inner] - true[:, inner], axis=-1)
        joints["in"].append(np.where(seen, distance, np.nan))
        joints["out"].append(np.where(seen, np.nan, distance))
        new = {
            "body-17 cm": 100 * mpjpe(xyz[:, :17], true[:, :17]),
            "body-12 cm": 100 * distance,
            "in view": 100 * distance[seen],
            "out of view": 100 * distance[~seen],
            "MPJVE cm/s": 100 * mpjve(world[:, inner], clip.joints[:, inner], fps=fps),
            "jitter m/s3": jitter(world[:, inner], fps=fps),
        }
        shown = hands_shown(clip.visible)
        mine, theirs = hands(xyz)[shown], hands(true)[shown]
        found = np.isfinite(mine).all(axis=(1, 2))
        mine, theirs = mine[found], theirs[found]
        if len(mine):
            new["hand mm, wrist-relative"] = 1000 * mpjpe(mine, theirs, root=WRIST)
            new["hand mm, Procrustes"] = 1000 * pa_mpjpe(mine, theirs)
            new["hand mm, camera"] = 1000 * mpjpe(mine, theirs)
        for name, values in new.items():
            rows.setdefault(name, []).append(np.asarray(values, dtype=np.float64))
        if sequence is not None and sequence.axis_sigma is not None:
            spread["error"].append(xyz - true)
            spread["sigma"].append(sequence.axis_sigma)
            spread["seen"].append(clip.visible == 1)
    out: dict[str, Any] = {name: mean(parts) for name, parts in rows.items()}
    out["joints"] = {
        name: [mean([np.concatenate(joints[side])[:, i]]) * 100 for side in ("in", "out")]
        for i, name in enumerate(BODY12.joints)
    }
    if spread["error"]:
        error, sigma, seen_all = (np.concatenate(spread[k]) for k in ("error", "sigma", "seen"))
        out["coverage"] = {
            f"{name} {round(100 * share)} %": coverage(np.where(some[..., None], error, np.nan), sigma, share)
            for share in (0.5, 0.9)
            for name, some in (("in view", seen_all), ("out of view", ~seen_all))
        }
    return out


def lens_cameras(side: int) -> dict[str, Any]:
    """The three lenses of the rows."""
    from egopose.camera import Camera

    middle = [(side - 1) / 2] * 2
    half = math.radians(75)
    kannala = [side / 2 / half, side / 2 / half, *middle, 0.01, -0.004, 0.0, 0.0]
    fisheye = np.array([side / 2 / math.radians(80), *middle, 0.01, -0.008, 0.002, 0, 0, 0, 2e-4, -1e-4, 0, 0, 0, 0])
    return {
        "pinhole 90": Camera.pinhole(side / 2, middle, (side, side), name="ego"),
        "Kannala-Brandt 150": Camera(
            "kannala_brandt", (side, side), np.array(kannala), name="ego", max_angle=half + 0.05
        ),
        "Fisheye624 160": Camera.fisheye624(fisheye, (side, side), name="ego", max_angle=math.radians(80)),
    }


def lens_rows(predictor: Any, motion: Path) -> dict[str, Any]:
    """The same motion, body and room through three lenses."""
    from egopose import rigid
    from egopose.skeleton import BODY12, BODY17_HANDS
    from egopose.train.rendered import RenderedClip
    from egopose.train.synthetic.dataset import Drawer, SynthConfig
    from egopose.train.synthetic.render import render_clip

    inner = BODY17_HANDS.indices(BODY12.joints)
    drawer = Drawer(SynthConfig(motion=(str(motion / "val.npz"),), seed=91, generated_share=0.0))
    rows, seen, off = {}, [], []
    for name, camera in lens_cameras(LENS_SIDE).items():
        clips = []
        for i in range(LENS_CLIPS):
            made = render_clip(drawer.motion(i), (91, i), camera=camera, samples=2, steep_share=0.4)
            visible = made["visible"].astype(np.int8)
            clips.append(
                RenderedClip(made["name"], made["subject"], camera, made["times_s"], made["T_world_camera"],
                             made["images"], made["joints_world"], visible)
            )  # fmt: skip
        said = list(network(predictor, clips, images=True, poses=True))
        rows[name] = measures(iter(said))
        true = [rigid.transform_points(rigid.invert(clip.T_world_camera), clip.joints) for clip in clips]
        far = [np.linalg.norm(xyz - joints, axis=-1) for (_, xyz, _), joints in zip(said, true, strict=True)]
        off.append(np.concatenate(far)[:, inner])
        seen.append(np.concatenate([clip.visible for clip in clips])[:, inner] == 1)
    for row, errors in zip(rows.values(), off, strict=True):
        # the same joints of the same frames through each lens
        row[SEEN_ALL] = 100 * float(errors[np.all(seen, axis=0)].mean())
        row[SEEN_NONE] = 100 * float(errors[~np.any(seen, axis=0)].mean())
    return rows


def measure(rendered: Path, motion: Path, weights: str) -> dict[str, Any]:
    """All rows."""
    from egopose import Predictor
    from egopose.train.evaluate import mean_pose, nearest, ridge
    from egopose.train.rendered_files import load_rendered

    predictor = Predictor.from_pretrained(weights)
    held = load_rendered(rendered / "val")
    train = [as_motion(clip) for clip in load_rendered(rendered / "train_more")]
    cases: dict[str, Callable[[], Said]] = {
        "(a) mean pose under the head": lambda: simple(mean_pose(train), held),
        "(b) ridge, 1 s window": lambda: simple(ridge(train), held),
        "(b) nearest neighbours, 1 s window": lambda: simple(nearest(train), held),
        ALONE: lambda: network(predictor, held, images=False, poses=True),
    }
    if "images" in predictor.trained:
        cases["(d) images, no head poses"] = lambda: network(predictor, held, images=True, poses=False)
        cases[BOTH] = lambda: network(predictor, held, images=True, poses=True)
        cases["(e) the same, --smooth"] = lambda: network(predictor, held, images=True, poses=True, smooth=True)
        cases[CAUSAL] = lambda: network(predictor, held, images=True, poses=True, mode="causal")
    result: dict[str, Any] = {
        "weights": weights, "clips": len(held), "frames": sum(len(c) for c in held),
        "subjects": sorted({c.subject for c in held}), "side": held[0].camera.size[0],
        "rows": {name: measures(make()) for name, make in cases.items()},
    }  # fmt: skip
    if "images" in predictor.trained:
        result["lenses"] = lens_rows(predictor, motion)
        for name in ("bars", "test"):
            fresh = load_rendered(rendered / name)
            result[name] = {
                "clips": len(fresh), "frames": sum(len(c) for c in fresh), "side": fresh[0].camera.size[0],
                "rows": {
                    ALONE: measures(network(predictor, fresh, images=False, poses=True)),
                    BOTH: measures(network(predictor, fresh, images=True, poses=True)),
                    CAUSAL: measures(network(predictor, fresh, images=True, poses=True, mode="causal")),
                },
            }  # fmt: skip
    return result


COLUMNS = (
    "body-12 cm", "in view", "out of view", "body-17 cm", "MPJVE cm/s", "jitter m/s3", "hand mm, wrist-relative",
    "hand mm, Procrustes", "hand mm, camera",
)  # fmt: skip


def cell(value: float | None) -> str:
    """One number, or nothing."""
    return "" if value is None or not math.isfinite(value) else f"{value:.1f}"


def row_table(title: str, rows: dict[str, Any], columns: Sequence[str] = COLUMNS) -> str:
    """Named rows of measures."""
    return markdown([title, *columns], [[name, *(cell(r.get(c)) for c in columns)] for name, r in rows.items()])


def gains(rows: dict[str, Any], *, covered: bool = True) -> str:
    """What images are worth, and how often the error bars held."""
    best, alone = rows[BOTH], rows[ALONE]
    gain = {c: 100 * (1 - best[c] / alone[c]) for c in ("body-12 cm", "in view", "out of view")}
    text = "Images against head poses alone: " + ", ".join(f"{c} {v:.0f} %" for c, v in gain.items()) + " lower."
    for name in (BOTH, CAUSAL, ALONE) if covered else ():
        cover = ", ".join(f"{where} {100 * v:.0f} %" for where, v in rows[name]["coverage"].items())
        text += f" Inside the intervals of {name}: {cover}."
    return text


def tables(result: dict[str, Any]) -> str:
    """Everything as markdown."""
    rows = result["rows"]
    parts = [
        f"{result['clips']} rendered clips ({result['frames']} frames of {result['side']} px, lenses at random) moved "
        f"by the held-out subjects {', '.join(result['subjects'])}, weights `{result['weights']}`, in camera axes, "
        "without alignment. The simple predictors learnt from the labels of the training clips. Hands count where at "
        "least 30 % of their joints are seen; one that the network did not find counts with its resting pose.",
        row_table("rendered clips", rows),
    ]
    best = rows.get(BOTH)
    if best:
        parts.append(gains(rows))
        joint = [[n, cell(a), cell(b)] for n, (a, b) in best["joints"].items()]
        parts.append(markdown(["(e), joint", "in view cm", "out of view cm"], joint))
    if "test" in result:
        bars, test = result["bars"], result["test"]
        parts.append(
            f"The clips above chose the weights. {bars['clips']} others ({bars['frames']} frames of {bars['side']} px) "
            "did not, but together with those set the error bars:"
        )
        parts.append(row_table("clips for error bars", bars["rows"]))
        parts.append(gains(bars["rows"], covered=False))
        parts.append(f"{test['clips']} more ({test['frames']} frames of {test['side']} px) had no part in either:")
        parts.append(row_table("other clips", test["rows"]))
        parts.append(gains(test["rows"]))
        frames = bars["frames"] + test["frames"]
        alone, both = (
            sum(part["rows"][name]["body-12 cm"] * part["frames"] for part in (bars, test)) / frames
            for name in (ALONE, BOTH)
        )
        parts.append(
            f"Over all {bars['clips'] + test['clips']} clips that chose no weights, images take body-12 from "
            f"{alone:.1f} to {both:.1f} cm, {100 * (1 - both / alone):.0f} % lower."
        )
    if "lenses" in result:
        parts.append(
            row_table(f"the same {LENS_CLIPS} clips through", result["lenses"], (*COLUMNS[:4], SEEN_ALL, SEEN_NONE))
        )
    return "\n\n".join(parts)


def main() -> None:
    """Measure, store, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rendered", type=Path)
    parser.add_argument("--motion-data", type=Path, default=os.environ.get("EGOPOSE_MOTION_DATA"))
    parser.add_argument("--weights", default="nano")
    parser.add_argument("--tables-only", action="store_true")
    options = parser.parse_args()
    if not options.tables_only:
        if options.rendered is None or options.motion_data is None:
            parser.error("give --rendered and --motion-data")
        import torch

        torch.set_num_threads(1)
        store("rendered", measure(options.rendered, Path(options.motion_data), options.weights))
    text = tables(stored("rendered"))
    put_table(PAGE, MARK, text)
    print(text)


if __name__ == "__main__":
    main()
