"""Reproduce the weights that ship: stage after stage from seed and data, in pieces, then calibrate and write them.

    python tools/train_default.py --motion-data FOLDER [--rendered FOLDER] --work runs/nano [--seconds 600]

The motion folder holds train_exact.npz, train_retarget.npz and val.npz (head poses and joints, split by subject); the
rendered folder holds train/, train_more/, narrow/, looking_down/, val/ and bars/ (clips) and hands_train/, hands_more/
and hands_val/ (hands) as `egopose synth` writes them. Every call continues where the last one stopped.

The shipped weights come from several rounds, which train_rounds.py tells of; those after the first start from weights.
Rounds six, seven, nine and ten start from what --ship of the round before left:

    python tools/train_default.py ... --round 2 --work runs/nano2 --init runs/nano/all/best.safetensors
    python tools/train_default.py ... --round 3 --work runs/nano3 --init runs/nano2/all/best.safetensors
    python tools/train_default.py ... --round 4 --work runs/nano4 --init runs/nano3/all/best.safetensors
    python tools/train_default.py ... --round 5 --work runs/nano5 --init runs/nano4/all/best.safetensors
    python tools/train_default.py ... --round 6 --work runs/nano6 --init egopose/weights/nano.safetensors
    python tools/train_default.py ... --round 7 --work runs/nano7 --init egopose/weights/nano.safetensors
    python tools/train_default.py ... --round 8 --work runs/nano8 --init runs/nano7/all/best.safetensors \\
        --hands runs/nano7/hands/best.safetensors
    python tools/train_default.py ... --round 9 --work runs/nano9 --init egopose/weights/nano.safetensors
    python tools/train_default.py ... --round 10 --work runs/nano10 --init egopose/weights/nano.safetensors

Error bars can be set anew without any training:

    python tools/train_default.py --motion-data FOLDER --rendered FOLDER --recalibrate
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from train_rounds import (
    AVERAGED,
    CLIPS,
    DECOYED,
    EIGHTH,
    FIFTH,
    MORE_DATA,
    NEW,
    ORDINALS,
    READS_CROPS,
    RENDERED,
    ROUNDS,
    SIDE_BY_SIDE,
    SIXTH,
)


def render(motion: Path, folder: Path) -> None:
    """Render what is not there yet, one process per core; about a hundred minutes of one core."""
    from egopose.commands.synth import run_synth_shared

    for name, values in RENDERED.items():
        held_out = name in ("hands_val", "val", "bars", "test")
        files = ["val.npz"] if held_out else ["train_exact.npz", "train_retarget.npz"]
        paths = [str(motion / file) for file in files]
        print(run_synth_shared("synth", folder / name, motion=paths, **{"samples": 2, "steep_share": 0.4, **values}))


def merge(init: Path, stages: dict[str, dict[str, Any]], parts: dict[str, Path], out: Path) -> None:
    """Weights of stages that ran side by side: of each the parts it changed."""
    from egopose.model.weights import load_weights, save_weights

    whole = load_weights(init)
    for stage, path in parts.items():
        mine = tuple(stages[stage]["train_only"])
        state = load_weights(path, expect=whole.config).state
        whole.state.update({name: value for name, value in state.items() if name.startswith(mine)})
    save_weights(out, whole.model(), notes={"merged": sorted(parts)})


def older(made: Path, *sources: Path) -> bool:
    """Whether a file is not there, or not as new as what it is made of."""
    return not made.exists() or made.stat().st_mtime < max(path.stat().st_mtime for path in sources)


def find_decoys(init: Path, rendered: Path, folders: Sequence[str], out: Path) -> None:
    """What the finder of some weights takes for hands in the clips to train on."""
    from egopose.model.weights import load_weights
    from egopose.train.decoys import find_decoys, save_decoys
    from egopose.train.rendered_files import load_folders

    clips = load_folders(rendered / name for name in folders)
    save_decoys(out, clips, find_decoys(load_weights(init).model(), clips))


def look_once(config: Any, init: Path, rendered: Path, folders: Sequence[str]) -> None:
    """Remember what the network that stage join starts from finds in the images of the clips."""
    from egopose.model.engine import TorchEngine
    from egopose.model.weights import load_weights
    from egopose.train.remembered import remember
    from egopose.train.rendered_files import load_folders

    clips, weights = load_folders(rendered / name for name in folders), load_weights(init)
    # the engine's copy has its normalisations folded into the convolutions: the same in half the time
    remember(TorchEngine(weights.model()).model, weights.sha256, clips, config, config.remembered)


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
        names = ("hands_train", "hands_more") if stages in MORE_DATA else ("hands_train",)
        values.update(crops=[str(rendered / name) for name in names])
    if rendered is not None and stage == "hands":
        values.update(held_out_crops=[str(rendered / "hands_val")])
    elif rendered is not None and stage != "motion":
        folders = CLIPS[ROUNDS.index(stages)]
        values.update(rendered=[str(rendered / name) for name in folders], held_out_rendered=[str(rendered / "val")])
        if stages in DECOYED and stage == "all":
            values.update(decoys=str(work / "decoys.npz"))
        if stage == "join":
            values.update(remembered=str(work / "remembered"))
        elif stages in MORE_DATA:
            values.update(single=[str(rendered / "looking_down")])
    if init is not None:
        values["init"] = str(init)
    return load_config(TrainConfig, size, **values)


def train(options: argparse.Namespace, known: dict[str, dict[str, Any]]) -> None:
    """Train what is left of the asked stages."""
    from egopose.errors import EgoposeError
    from egopose.train.stages import run_training

    stages = options.stages
    if stages is None:
        stages = ["motion"] if options.rendered is None else list(known)
    side_by_side = SIDE_BY_SIDE if set(SIDE_BY_SIDE) <= set(known) else ()
    done: Path | None = options.init
    if known is EIGHTH:
        done = options.work / "start.safetensors"
        if older(done, options.init, options.hands):
            merge(options.init, {"hands": {"train_only": READS_CROPS}}, {"hands": options.hands}, done)
    for stage in known:
        best = options.work / stage / "best.safetensors"
        lost = [name for name in side_by_side if not (options.work / name / "best.safetensors").exists()]
        if stage in stages and stage not in side_by_side and lost:
            raise EgoposeError(f"{options.work}: stage {stage} starts from {', '.join(side_by_side)}; no {lost[0]} yet")
        if stage in stages:
            start = options.init if stage in side_by_side else done
            decoys = options.work / "decoys.npz"
            if known in DECOYED and stage == "all" and done is not None and older(decoys, done):
                find_decoys(done, options.rendered, CLIPS[ROUNDS.index(known)], decoys)
            config = stage_config(
                known, stage, options.size, options.motion_data, options.rendered, options.work, start
            )
            if config.remembered is not None:
                look_once(config, Path(config.init), options.rendered, CLIPS[ROUNDS.index(known)])
            result = run_training(config, max_seconds=options.seconds)
            print(f"{stage}: step {result['step']} of {result['steps']}, {result['seconds']} s on {platform.machine()}")
            if result["step"] < result["steps"]:
                break
        if best.exists() and stage not in side_by_side:
            done = best
        parts = {name: options.work / name / "best.safetensors" for name in side_by_side}
        if side_by_side and stage == side_by_side[-1] and all(path.exists() for path in parts.values()):
            done = options.work / "merged.safetensors"
            # the other process may have gone on since
            if older(done, *parts.values()):
                merge(options.init, known, parts, done)


def main() -> None:
    """Train what is left, then ship."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motion-data", type=Path, required=True)
    parser.add_argument("--rendered", type=Path)
    parser.add_argument("--size", default="nano")
    parser.add_argument("--work", type=Path, default=Path("runs/nano"))
    parser.add_argument("--round", type=int, choices=range(1, len(ROUNDS) + 1), default=1)
    parser.add_argument("--stages", nargs="*", help="by default motion, and all of the round with --rendered")
    parser.add_argument("--init", type=Path, help="the weights that a later round starts from")
    parser.add_argument("--hands", type=Path, help="weights of stage hands that the eighth round reads crops with")
    parser.add_argument("--seconds", type=float, help="stop each stage after this much time, with a checkpoint")
    parser.add_argument("--render", action="store_true", help="first render what is not yet in the rendered folder")
    parser.add_argument(
        "--ship", action="store_true", help="calibrate the best weights so far and write them into the package"
    )
    parser.add_argument(
        "--recalibrate", action="store_true", help="only set the error bars of the shipped weights anew"
    )
    options = parser.parse_args()
    known = ROUNDS[options.round - 1]
    if (options.init is None) != (options.round == 1):
        parser.error("rounds after the first, and they alone, start from weights: --init")
    if (options.hands is None) == (known is EIGHTH):
        parser.error("the eighth round, and it alone, reads crops with other weights: --hands")
    unknown = set(options.stages or ()) - set(known)
    if unknown:
        parser.error(f"round {options.round} has no stage {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    if options.rendered is None and (options.render or options.round > 1):
        parser.error("--render, and rounds after the first, need a folder: --rendered")

    from egopose.errors import EgoposeError
    from egopose.train.ship import recalibrate, ship, training_log

    folder, motion = ROOT / "egopose" / "weights", options.motion_data / "val.npz"
    val, bars = (None if options.rendered is None else options.rendered / name for name in ("val", "bars"))
    try:
        if options.render:
            render(options.motion_data, options.rendered)
        if options.recalibrate:
            print(recalibrate(folder, options.size, motion=motion, rendered=val, bars=bars))
            return
        train(options, known)
        if options.ship:
            reached = [stage for stage in known if (options.work / stage / "best.safetensors").exists()]
            if options.round > 1 and set(reached) <= set(SIDE_BY_SIDE):
                last = list(known)[-1]
                raise EgoposeError(
                    f"{options.work}: round {options.round} ships after its stage {last}; no weights of that yet"
                )
            called = f"{ORDINALS[options.round - 1]} round"
            print(
                ship(
                    options.work, reached, folder, options.size, called, motion=motion, rendered=val,
                    bars=bars if ROUNDS.index(known) >= ROUNDS.index(FIFTH) else None,
                    before=options.init if known in AVERAGED else None, new=NEW if known is SIXTH else (),
                )
            )  # fmt: skip
            machine = f"{platform.machine()}, {os.cpu_count()} shared cores"
            training_log(options.work, reached, called, machine, ROOT / "docs" / "training-log.md")
    except EgoposeError as error:
        raise SystemExit(f"train_default: {error}") from None


if __name__ == "__main__":
    main()
