"""Reproduce the weights that ship: stage after stage from seed and data, in pieces, then calibrate and write them.

    python tools/train_default.py --motion-data FOLDER [--rendered FOLDER] --work runs/nano [--seconds 600]

The motion folder holds train_exact.npz, train_retarget.npz and val.npz (head poses and joints, split by subject); the
rendered folder holds train/ and val/ (clips) and hands_train/ and hands_val/ (hands) as `egopose synth` writes them.
Every call continues where the last one stopped.

The shipped weights come from two rounds: all stages (FIRST), then, after the knuckles of the body asset were moved and
everything was rendered anew, a second round from the weights of the first:

    python tools/train_default.py ... --work runs/nano2 --init runs/nano/all/best.safetensors
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

FIRST: dict[str, dict[str, Any]] = {
    # what a stage changes in configs/<size>.yaml
    "motion": {},
    "hands": {
        "steps": 1600, "lr": 2.0e-3, "warmup": 100, "eval_every": 200, "save_every": 50,
        "rendered_window": 8, "rendered_batch": 8,
        "train_only": ["hand_encoder", "hand_head", "decoder", "decoder_norm", "memory_norm", "queries", "ray_in",
                       "kind", "no_image", "no_hand"],
        # what reads one frame's crops: nothing that needs time or the body learns here
        "loss": {name: 0.0 for name in ("xyz", "hand", "ray", "velocity", "bone", "symmetry", "visible", "contact",
                                        "foot", "gravity", "height", "heat")},
    },
    "images": {
        "steps": 1000, "lr": 1.0e-3, "warmup": 50, "eval_every": 500, "save_every": 25, "amp": "bf16",
        "rendered_window": 12, "rendered_batch": 5, "motion_every": 6, "crops_every": 6,
    },
    "all": {
        "steps": 260, "lr": 3.0e-4, "warmup": 10, "eval_every": 260, "save_every": 25, "amp": "bf16",
        "rendered_window": 24, "rendered_batch": 3, "motion_every": 3, "crops_every": 6,
    },
}  # fmt: skip

SECOND: dict[str, dict[str, Any]] = {
    "hands": {
        **FIRST["hands"], "steps": 4000, "warmup": 50, "eval_every": 500,
        # what whole images are read with as well stays as it is
        "train_only": ["hand_encoder", "hand_head", "decoder", "decoder_norm", "queries"],
    },
    "images": {**FIRST["images"], "steps": 1300, "crops_every": 3, "amp": "off"},
    "all": {**FIRST["all"], "steps": 700, "crops_every": 4, "eval_every": 350},
}  # fmt: skip
"""Stages that start from earlier weights (--init)."""


def stage_config(
    stages: dict[str, dict[str, Any]], stage: str, size: str, motion: Path, rendered: Path | None, work: Path,
    init: Path | None,
) -> Any:  # fmt: skip
    """Settings of a stage."""
    from egopose.config import load_config
    from egopose.train.config import TrainConfig

    values: dict[str, Any] = {
        "stage": stage,
        "motion": [str(motion / "train_exact.npz"), str(motion / "train_retarget.npz")],
        "held_out_motion": [str(motion / "val.npz")],
        "out": str(work / stage),
        **stages[stage],
    }
    if rendered is not None and stage != "motion":
        values.update(crops=[str(rendered / "hands_train")])
    if rendered is not None and stage == "hands":
        values.update(held_out_crops=[str(rendered / "hands_val")])
    elif rendered is not None and stage != "motion":
        values.update(rendered=[str(rendered / "train")], held_out_rendered=[str(rendered / "val")])
    if init is not None:
        values["init"] = str(init)
    return load_config(TrainConfig, size, **values)


def main() -> None:
    """Train what is left, then ship."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motion-data", type=Path, required=True)
    parser.add_argument("--rendered", type=Path)
    parser.add_argument("--size", default="nano")
    parser.add_argument("--work", type=Path, default=Path("runs/nano"))
    parser.add_argument(
        "--stages", nargs="*", choices=list(FIRST), help="by default motion, and hands, images and all with --rendered"
    )
    parser.add_argument("--init", type=Path, help="start a second round from these weights")
    parser.add_argument("--seconds", type=float, help="stop each stage after this much time, with a checkpoint")
    parser.add_argument(
        "--ship", action="store_true", help="calibrate the best weights so far and write them into the package"
    )
    options = parser.parse_args()

    from egopose.errors import EgoposeError
    from egopose.files import atomic_write
    from egopose.train.ship import ship, training_log
    from egopose.train.stages import run_training

    known = FIRST if options.init is None else SECOND
    stages = options.stages
    if stages is None:
        stages = ["motion"] if options.rendered is None else list(known)
    try:
        done: Path | None = options.init
        for stage in known:
            best = options.work / stage / "best.safetensors"
            if stage in stages:
                config = stage_config(
                    known, stage, options.size, options.motion_data, options.rendered, options.work, done
                )
                result = run_training(config, max_seconds=options.seconds)
                print(
                    f"{stage}: step {result['step']} of {result['steps']}, {result['seconds']} s "
                    f"on {platform.machine()}"
                )
                if result["step"] < result["steps"]:
                    break
            if best.exists():
                done = best
        if options.ship:
            reached = [stage for stage in known if (options.work / stage / "best.safetensors").exists()]
            first = [] if options.init is None else [options.init.parent.parent / stage for stage in FIRST]
            first = [folder for folder in first if (folder / "log.jsonl").exists()]
            text = ship(
                options.work, reached, ROOT / "egopose" / "weights", options.size,
                motion=options.motion_data / "val.npz",
                rendered=None if options.rendered is None else options.rendered / "val", earlier=first,
            )  # fmt: skip
            machine = f"{platform.machine()}, {os.cpu_count()} shared cores"
            with atomic_write(ROOT / "docs" / "training-log.md", "w") as stream:
                stream.write(training_log(options.work, reached, machine, earlier=first))
            print(text)
    except EgoposeError as error:
        raise SystemExit(f"train_default: {error}") from None


if __name__ == "__main__":
    main()
