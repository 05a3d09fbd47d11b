"""Reproduce the weights that ship: stage after stage from seed and data, in pieces, then calibrate and write them.

    python tools/train_default.py --motion-data FOLDER [--rendered FOLDER] --work runs/nano [--seconds 600]

The motion folder holds train_exact.npz, train_retarget.npz and val.npz (head poses and joints, split by subject); the
rendered folder holds train/, train_more/, looking_down/, val/ and bars/ (clips) and hands_train/, hands_more/ and
hands_val/ (hands) as `egopose synth` writes them. Every call continues where the last one stopped.

The shipped weights come from nine rounds. The second started from the weights of the first after the knuckles of the
body asset were moved and everything was rendered anew. For the third, hands are read at twice the resolution and the
hand finder sees the arms as well (both layers were new and started at zero), other clips were rendered (--render), and
what reads crops and what reads whole images learns side by side, each on a core (start the stages hands and frames in
two processes, or one after the other). The fourth is everything once more, on more clips and in the mirror; the part
of the finder that sees both maps was new there and started at zero. The fifth is everything once more on the clips
that came for the fourth, with crops aimed as far off as the finder aims them and clips that show limbs more often; what
went on lies halfway between the fourth's weights and the fifth's. In the sixth, hands are read for longer, near ones
more often, and images say of the body what they show by a head of their own (new there), learnt on single frames; head
motion stays as it was. In the seventh, a third of the hands is cut off by the image's edge, and the head of the images
was replaced: it looks by the decoder's own keys and values, and says how sure it is. What the finder takes for hands in
the clips is looked at as well there, so that a look learns to say no. In its stage all hands of clips were read worse
by a millimetre, so in the eighth the hand encoder, and what says where a hand is in its crop, are put back and stay,
while what joins images with the rest goes on. In the ninth, a hand is corrected by what the maps of its crop show where
its joints are (new there), and what joins images with head motion over time learns from clips that were looked at once
and are remembered. Rounds six, seven and nine start from what --ship of the round before left:

    python tools/train_default.py ... --round 2 --work runs/nano2 --init runs/nano/all/best.safetensors
    python tools/train_default.py ... --round 3 --work runs/nano3 --init runs/nano2/all/best.safetensors
    python tools/train_default.py ... --round 4 --work runs/nano4 --init runs/nano3/all/best.safetensors
    python tools/train_default.py ... --round 5 --work runs/nano5 --init runs/nano4/all/best.safetensors
    python tools/train_default.py ... --round 6 --work runs/nano6 --init egopose/weights/nano.safetensors
    python tools/train_default.py ... --round 7 --work runs/nano7 --init egopose/weights/nano.safetensors
    python tools/train_default.py ... --round 8 --work runs/nano8 --init runs/nano7/all/best.safetensors \\
        --hands runs/nano7/hands/best.safetensors
    python tools/train_default.py ... --round 9 --work runs/nano9 --init egopose/weights/nano.safetensors

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

THIRD: dict[str, dict[str, Any]] = {
    "hands": {
        **SECOND["hands"], "steps": 2600, "warmup": 100, "eval_every": 650,
        "train_only": [*SECOND["hands"]["train_only"], "hand_fine"],
    },
    "frames": {
        "steps": 1400, "lr": 1.0e-3, "warmup": 50, "eval_every": 700, "save_every": 50,
        "rendered_window": 10, "rendered_batch": 6,
        "train_only": ["image_encoder", "heat"],
        # the finder, and what the decoder reads in single frames, so that it still finds it there
        "loss": {"heat": 0.5, "hand": 0.0, "frame_hand": 0.0, "velocity": 0.0, "bone": 0.0, "symmetry": 0.0},
    },
    "all": {
        "steps": 2200, "lr": 8.0e-4, "encoder_lr": 0.6, "warmup": 50, "eval_every": 550, "save_every": 50, "threads": 2,
        "rendered_window": 16, "rendered_batch": 4, "motion_every": 9, "crops_every": 3, "frames_every": 6,
        # hands lost 2 mm of what they had learnt in this stage of the second round
        "loss": {"heat": 0.15, "hand": 3.0, "frame_hand": 3.0},
    },
}  # fmt: skip

FOURTH: dict[str, dict[str, Any]] = {
    "all": {**THIRD["all"], "steps": 2400, "eval_every": 600},
}

FIFTH: dict[str, dict[str, Any]] = {
    "all": {
        **THIRD["all"], "steps": 2000, "eval_every": 500, "frames_every": 5,
        "loss": {**THIRD["all"]["loss"], "seen": 3.0},
    },
}  # fmt: skip

SIXTH: dict[str, dict[str, Any]] = {
    "hands": {
        **THIRD["hands"], "steps": 4200, "eval_every": 600, "save_every": 100,
        # what else reads these tokens stays as it is
        "train_only": ["hand_encoder", "hand_head", "hand_fine"],
    },
    "frames": {
        **THIRD["frames"], "steps": 1500, "eval_every": 500,
        # slope and bias are left for windows: single frames know no head poses, so images would count too much
        "train_only": [
            "image_encoder", "heat", "body_reader", "heads.shown.joints", "heads.shown.mean", "heads.shown.doubt",
        ],
        "loss": {**THIRD["frames"]["loss"], "frame_body": 1.0},
    },
    "all": {
        **FIFTH["all"], "steps": 1500, "eval_every": 1500, "motion_every": 1_000_000, "crops_every": 5,
        "frames_every": 2, "loss": {**FIFTH["all"]["loss"], "frame_body": 1.0},
        # what reads crops, and what joins images with the rest: head motion says what it said
        "train_only": [
            "hand_encoder", "hand_head", "hand_fine", "ray_in", "kind", "no_image", "no_hand", "queries", "decoder",
            "memory_norm", "body_reader", "fuse_body", "fuse_hands", "heads.shown", "heads.hand_doubt",
            "heads.hand_gate",
        ],
    },
}  # fmt: skip

SEVENTH: dict[str, dict[str, Any]] = {
    "hands": {**SIXTH["hands"], "steps": 4600, "eval_every": 920},
    "frames": {**SIXTH["frames"], "steps": 1300, "eval_every": 650},
    "all": {**SIXTH["all"], "steps": 1900, "eval_every": 1900},
}  # fmt: skip

READS_CROPS = ("hand_encoder", "hand_fine", "hand_head.wrist", "hand_head.joints", "hand_head.mean")
"""Where a hand is in a crop; whether there is one is learnt on."""

EIGHTH: dict[str, dict[str, Any]] = {
    "all": {
        **SEVENTH["all"], "steps": 900, "eval_every": 900, "save_every": 50, "lr": 5.0e-4, "warmup": 30, "seed": 1,
        "frames_every": 4, "crops_every": 6,
        "train_only": [
            *(part for part in SIXTH["all"]["train_only"] if not part.startswith("hand_")), "hand_head.seen",
        ],
    },
}  # fmt: skip

NINTH: dict[str, dict[str, Any]] = {
    "hands": {**SIXTH["hands"], "steps": 4400, "eval_every": 550, "lr": 1.5e-3},
    "join": {
        "steps": 1600, "eval_every": 800, "save_every": 200, "lr": 7.0e-4, "warmup": 50,
        "rendered_window": 16, "rendered_batch": 24, "motion_every": 3,
        # without images there is captured motion to learn from: arms are raised more often in rendered clips
        "image_drop": 0.0, "hand_drop": 0.05, "rendered_head_drop": 0.2,
        "loss": {"heat": 0.0, "hand": 3.0, "frame_hand": 0.0, "frame_body": 0.0, "crop": 0.0, "seen": 3.0},
        # nothing that looks: what it found is given
        "train_only": [
            "fuse_body", "fuse_hands", "temporal", "heads.body", "heads.rest", "heads.side", "heads.bones",
            "heads.place", "heads.contact", "heads.hand_doubt", "heads.hand_gate", "heads.shown.slope",
            "heads.shown.bias",
        ],
    },
}  # fmt: skip

NEW = ("body_reader", "heads.shown")
"""Parts that were new in the sixth round, and anew in the seventh."""

ROUNDS = (FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH, SEVENTH, EIGHTH, NINTH)
CLIPS = (("train",), ("train",), ("train",), ("train", "train_more"), *(("train_more",),) * 5)
"""Folders of rendered clips that each round learns from."""

MORE_DATA, DECOYED = (SIXTH, SEVENTH, EIGHTH, NINTH), (SEVENTH, EIGHTH)
"""Rounds that learn from hands_more and looking_down as well, and from what the finder takes for hands."""

AVERAGED = (FIFTH, SIXTH)
"""Rounds of which the middle of start and end ships."""

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
SIDE_BY_SIDE = ("hands", "frames")
"""Stages that start from the same weights and change other parts, in rounds that have both."""

RENDERED: dict[str, dict[str, Any]] = {
    # what `egopose synth` is told for the third round
    "hands_train": {"content": "hands", "clips": 1600, "frames": 16, "side": 144, "seed": 301, "hands_up": 0.9},
    # for the sixth round: as many hands again
    "hands_more": {"content": "hands", "clips": 1600, "frames": 16, "side": 144, "seed": 308, "hands_up": 0.9},
    # single frames that show legs and shoulders, which clips seldom do
    "looking_down": {
        "clips": 1500, "frames": 6, "side": 256, "seed": 309, "steep_share": 1.0, "steepest_deg": 75.0, "hands_up": 0.3,
    },
    "hands_val": {
        "content": "hands", "clips": 80, "frames": 16, "side": 144, "seed": 302, "hands_up": 0.9, "samples": 3,
        "generated_share": 0.0,
    },
    "train": {"clips": 1000, "frames": 24, "side": 416, "seed": 303},
    # for the fourth round: more rooms and bodies, in smaller images
    "train_more": {"clips": 3600, "frames": 16, "side": 320, "seed": 306},
    "val": {"clips": 40, "frames": 32, "side": 512, "seed": 304, "samples": 3, "generated_share": 0.0},
    # more to set the error bars by: forty clips do not show how far errors go
    "bars": {"clips": 80, "frames": 32, "side": 512, "seed": 307, "samples": 3, "generated_share": 0.0},
    # chose neither weights nor error bars, and as large as real images
    "test": {"clips": 24, "frames": 32, "side": 1024, "seed": 305, "generated_share": 0.0},
}  # fmt: skip


def render(motion: Path, folder: Path) -> None:
    """Render what is not there yet, one process per core; about eighty minutes of one core."""
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
    from egopose.train.rendered_files import load_rendered

    clips = [clip for name in folders for clip in load_rendered(rendered / name)]
    save_decoys(out, clips, find_decoys(load_weights(init).model(), clips))


def look_once(config: Any, init: Path, rendered: Path, folders: Sequence[str]) -> None:
    """Remember what the network that stage join starts from finds in the images of the clips."""
    from egopose.model.engine import TorchEngine
    from egopose.model.weights import load_weights
    from egopose.train.remembered import remember
    from egopose.train.rendered_files import load_rendered

    clips, weights = [clip for name in folders for clip in load_rendered(rendered / name)], load_weights(init)
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
