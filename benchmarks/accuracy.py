"""Accuracy on held-out subjects: simple predictors from head motion, and the network in its modes.

Usage: python benchmarks/accuracy.py --motion-data FOLDER [--rendered FOLDER] [--weights nano] [--tables-only]

All rows are scored on the same frames. The motion folder holds train_exact.npz, train_retarget.npz (the simple
predictors learn from these) and val.npz (scored); the rendered folder holds clips of the held-out subjects.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, put_table, store, stored

PAGE, MARK = "accuracy.md", "accuracy"
GROUPS = {"all": None, "walking (exact)": "A", "karate and other (common figure)": "B-daz"}


def group(clips: Sequence[Any], tier: str | None) -> list[Any]:
    """Clips of one tier."""
    return [c for c in clips if tier is None or c.tier == tier]


def best_setting(make: Any, settings: Sequence[Any], clips: Sequence[Any], score: Any) -> tuple[Any, Any]:
    """The setting that is best on the scored clips themselves: a bound that favours the simple predictor."""
    tried = [
        (score(predict, clips)["body12_cm"], setting, predict) for setting in settings for predict in [make(setting)]
    ]
    _, setting, predict = min(tried, key=lambda t: t[0])
    return setting, predict


def rates(clips: Sequence[Any], model: Any) -> dict[str, float]:
    """Body-12 error at other frame rates and with dropped frames, scored at the frames that are left."""
    from egopose.train.evaluate import network, score
    from egopose.train.windows import resample

    out = {}
    for fps in (10.0, 15.0, 30.0, 60.0):
        other = [resample(c, np.arange(0.0, c.seconds, 1 / fps)) for c in clips]
        out[f"{fps:.0f} frames/s"] = score(network(model), other)["body12_cm"]
    rng = np.random.default_rng(0)
    dropped = []
    for clip in clips:
        keep = rng.random(len(clip)) >= 0.2
        keep[[0, -1]] = True
        dropped.append(clip.cut(np.flatnonzero(keep)))
    out["30 frames/s, 20 % dropped"] = score(network(model), dropped)["body12_cm"]
    # speed is not comparable across rates, so only positions are listed
    return out


def motion_rows(folder: Path, weights: str) -> dict[str, Any]:
    """The table of head motion alone."""
    from egopose.metrics import jitter
    from egopose.model.weights import from_pretrained
    from egopose.train.calibrate import coverage
    from egopose.train.evaluate import BODY, mean_pose, nearest, network, network_sequences, ridge, score
    from egopose.train.windows import load_motion

    train = load_motion(folder / "train_exact.npz") + load_motion(folder / "train_retarget.npz")
    held = load_motion(folder / "val.npz")
    # no climbing and uneven ground: the simple predictors are better without
    level = [c for c in train if c.subject not in ("001", "003")]
    model = from_pretrained(weights).model()
    strength, linear = best_setting(lambda s: ridge(train, s), (10.0, 100.0, 1000.0), held, score)
    k, neighbours = best_setting(lambda s: nearest(train, s), (1, 8, 32, 96), held, score)
    predictors = {
        "(a) mean pose under the head": mean_pose(train),
        "(a) the same, level ground only": mean_pose(level),
        f"(b) ridge, 1 s window, strength {strength:g}": linear,
        f"(b) nearest neighbours, 1 s window, k = {k}": neighbours,
        "(c) network, offline": network(model),
        "(c) network, 3 steps ahead": network(model, 3),
        "(c) network, causal": network(model, "causal"),
    }
    rows: dict[str, dict[str, Any]] = {}
    for name, predict in predictors.items():
        rows[name] = {label: score(predict, group(held, tier)) for label, tier in GROUPS.items()}
        values = [np.asarray(jitter(predict(c), fps=(len(c) - 1) / c.seconds)) for c in held if len(c) > 4]
        rows[name]["jitter"] = float(np.nanmean(np.concatenate([v.ravel() for v in values])))
    error, sigma = [], []
    for clip, sequence in network_sequences(model, held):
        error.append(sequence.xyz[:, BODY] - clip.joints[:, BODY])
        sigma.append(sequence.axis_sigma[:, BODY])  # type: ignore[index]
    e, s = np.concatenate(error), np.concatenate(sigma)
    per_joint = {}
    from egopose.skeleton import BODY17

    for i, joint in enumerate(BODY17.joints):
        per_joint[joint] = float(100 * np.linalg.norm(e[:, i], axis=-1).mean())
    baseline = {g: min(r[g]["body12_cm"] for n, r in rows.items() if n[:3] in ("(a)", "(b)")) for g in GROUPS}
    return {
        "rows": rows,
        "gain_percent": {g: 100 * (1 - rows["(c) network, offline"][g]["body12_cm"] / baseline[g]) for g in GROUPS},
        "coverage": {"50": coverage(e, s, 0.5), "90": coverage(e, s, 0.9)},
        "rates": rates(held, model),
        "per_joint_cm": per_joint,
        "frames": sum(len(c) for c in held),
        "subjects": sorted({c.subject for c in held}),
    }


def tables(result: dict[str, Any]) -> str:
    """Everything as markdown."""
    motion = result["motion"]
    header = [
        "head motion alone",
        *[f"body-12 cm, {g}" for g in GROUPS],
        "body-17 cm, all",
        "MPJVE cm/s, all",
        "jitter",
    ]
    rows = [
        [
            name,
            *[f"{r[g]['body12_cm']:.1f}" for g in GROUPS],
            f"{r['all']['body17_cm']:.1f}",
            f"{r['all']['mpjve12_cm_s']:.0f}",
            f"{r['jitter']:.2f}",
        ]
        for name, r in motion["rows"].items()
    ]
    gain = ", ".join(f"{g} {v:.1f} %" for g, v in motion["gain_percent"].items())
    parts = [
        f"Held-out subjects {', '.join(motion['subjects'])}, {motion['frames']} frames, weights `{result['weights']}`. "
        "Settings of (b) were chosen on the scored frames, in its favour; checkpoints and error bars of the network "
        "were chosen on them too.",
        markdown(header, rows),
        f"Network offline against the best of (a) and (b), body-12: {gain} lower.",
        "Share of errors inside the intervals of 50 and 90 %: "
        f"{100 * motion['coverage']['50']:.0f} and {100 * motion['coverage']['90']:.0f} %.",
        markdown(["frame rate", "body-12 cm"], [[k, f"{v:.2f}"] for k, v in motion["rates"].items()]),
        markdown(["joint", "error cm"], [[k, f"{v:.1f}"] for k, v in motion["per_joint_cm"].items()]),
    ]
    if "rendered" in result:
        header = ["rendered clips", *next(iter(result["rendered"]["rows"].values()))]
        rows = [[name, *[f"{v:.1f}" for v in r.values()]] for name, r in result["rendered"]["rows"].items()]
        parts.append(markdown(header, rows))
    return "\n\n".join(parts)


def main() -> None:
    """Measure, store, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motion-data", type=Path, default=os.environ.get("EGOPOSE_MOTION_DATA"))
    parser.add_argument("--rendered", type=Path)
    parser.add_argument("--weights", default="nano")
    parser.add_argument("--tables-only", action="store_true")
    options = parser.parse_args()
    if not options.tables_only:
        if options.motion_data is None:
            parser.error("give --motion-data, or set EGOPOSE_MOTION_DATA")
        import torch

        torch.set_num_threads(1)
        result: dict[str, Any] = {
            "weights": options.weights,
            "motion": motion_rows(Path(options.motion_data), options.weights),
        }
        if options.rendered is not None:
            from egopose.train.rendered_scores import rendered_table

            result["rendered"] = rendered_table(options.weights, options.rendered)
        store("accuracy", result)
    text = tables(stored("accuracy"))
    put_table(PAGE, MARK, text)
    print(text)


if __name__ == "__main__":
    main()
