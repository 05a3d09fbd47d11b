"""Ego-Exo4D end to end on the stand-in, by the commands that a user types.

Exo videos -> triangulated labels -> scored against the exact truth -> training clips -> nano trained on them -> test
takes predicted -> both submissions validated and packed -> both official protocols. Usage:
python tools/ego_exo4d.py OUT [--steps 300] [--height 720] [--seconds 6]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from egopose.cli import main as egopose
from egopose.files import write_json


def run(*words: object) -> Any:
    """One command; its JSON result.

    Raises:
        RuntimeError: It failed.
    """
    command = [str(word) for word in words]
    print("$ egopose", " ".join(command), flush=True)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        status = egopose([*command, "--json"])
    if status:
        raise RuntimeError(f"egopose {command[0]} ended with status {status}: {text.getvalue()[-2000:]}")
    return json.loads(text.getvalue())


def settings(path: Path, clips: Path, runs: Path, steps: int) -> Path:
    """Training settings: the preset nano on the clips alone."""
    from egopose.config import config_dict, load_config
    from egopose.train.config import TrainConfig

    nano = load_config(TrainConfig, "nano")
    write_json(
        path,
        {
            "stage": "all", "model": config_dict(nano.model), "rendered": [str(clips)], "out": str(runs),
            "steps": steps, "rendered_batch": 4 if steps > 50 else 2, "rendered_window": 6 if steps > 50 else 4,
            "lr": 1e-3, "warmup": max(1, steps // 10), "eval_every": steps, "save_every": steps,
            # a short run's weights hardly leave their start in a slow average
            "ema": 0.98 if steps > 50 else 0.5,
        },
    )  # fmt: skip
    return path


def end_to_end(labelled: Path, tested: Path, out: Path, *, steps: int) -> dict[str, Any]:
    """Every step from videos to scores.

    Args:
        labelled: A stand-in with exo videos, whose train takes are labelled and trained on.
        tested: A stand-in with ego videos, whose test takes are predicted; may be the same.
        out: Folder of everything that is made.
        steps: Of the training.

    Returns:
        The figures of every step.
    """
    result: dict[str, Any] = {}
    labels = run("label", labelled, "--out", out / "labels", "--split", "train")
    result["labels"] = {}
    for kind, done in labels["kinds"].items():
        for row in done["takes"]:
            truth = labelled / "truth" / f"{row['take_uid']}.npz"
            scores = run("evaluate", "pose", out / "labels" / "poses" / kind / f"{row['take_uid']}.npz", truth)
            result["labels"].setdefault(kind, {})[row["take_name"]] = {
                "mpjpe_mm": scores["metrics"]["mpjpe_mm"] if "metrics" in scores else scores["mpjpe_mm"],
                "agreement": row.get("agreement"),
            }
    run("clips", labelled, "--labels", out / "labels", "--out", out / "clips")
    config = settings(out / "train.yaml", out / "clips", out / "run", steps)
    result["train"] = run("train", config)
    weights = out / "run" / "last.safetensors"
    index = {"body": "body_test_frames.json", "hand": "ego_pose_gt_anno_test_public.json"}
    for track, name in index.items():
        sent = run(
            "submit", tested, "--track", track, "--out", out / f"{track}.zip", "--weights", weights,
            "--index", tested / "lists" / name,
        )  # fmt: skip
        result[f"{track}_submission"] = {"zip": sent["zip"], "takes": sent["takes"]}
        run("validate", track, out / f"{track}.json", tested / "lists" / name)
    truth = tested / "truth"
    poses = tested / "annotations" / "ego_pose" / "test" / "camera_pose"
    result["body_official"] = run("evaluate", "body", out / "body.json", truth / "body_test.json")
    result["body_baseline"] = run(
        "evaluate",
        "body",
        out / "body.json",
        truth / "body_test.json",
        "--protocol",
        "baseline",
        "--camera-poses",
        poses,
    )
    result["hand_official"] = run("evaluate", "hand", out / "hand.json", truth / "hand_test.json")
    return result


def summary(result: dict[str, Any]) -> str:
    """The figures in words."""
    lines = []
    for kind, takes in result["labels"].items():
        for name, row in takes.items():
            lines.append(f"labels, {kind}: {name}: {row['mpjpe_mm']:.1f} mm from the truth on average")
    train = result["train"]
    lines.append(f"trained: {train['step']} steps, {train['seconds']:.0f} s")
    body, base, hand = (result[key] for key in ("body_official", "body_baseline", "hand_official"))
    lines.append(f"body, official: {body['mpjpe_cm']:.2f} cm, {body['mpjve_m_s']:.2f} m/s")
    lines.append(f"body, baseline: {base['mpjpe_cm']:.2f} cm, {base['mpjve_m_s']:.2f} m/s")
    lines.append(f"hand, official: {hand['mpjpe_mm']:.2f} mm, aligned {hand['pa_mpjpe_mm']:.2f} mm")
    lines += [f"packed: {result[f'{track}_submission']['zip']}" for track in ("body", "hand")]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    data = options.out / "data"
    if not (data / "takes.json").exists():
        run(
            "synth", "ego-exo4d", data, "--takes", 3, "--seconds", options.seconds, "--video-height", options.height
        )  # fmt: skip
    egopose(["info", str(data)])
    result = end_to_end(data, data, options.out, steps=options.steps)
    write_json(options.out / "result.json", result)
    print(summary(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
