"""What each round of training changes: stages, data, and what is rendered for them; see train_default.py.

The shipped weights come from ten rounds. The second started from the weights of the first after the knuckles of the
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
and are remembered. The tenth goes on with that alone, on 2,000 clips more, all through narrow lenses, and draws all
clips alike.
"""

from __future__ import annotations

from typing import Any

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

TENTH: dict[str, dict[str, Any]] = {
    "join": {
        **NINTH["join"], "steps": 700, "eval_every": 350, "save_every": 100, "rendered_batch": 32,
        # clips that show limbs are not drawn more often: those are of wide lenses, and narrow ones were learnt least
        "limbs_weight": 0.0,
    },
}  # fmt: skip

NEW = ("body_reader", "heads.shown")
"""Parts that were new in the sixth round, and anew in the seventh."""

ROUNDS = (FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH, SEVENTH, EIGHTH, NINTH, TENTH)
CLIPS = (("train",), ("train",), ("train",), ("train", "train_more"), *(("train_more",),) * 5, ("train_more", "narrow"))
"""Folders of rendered clips that each round learns from."""

MORE_DATA, DECOYED = ROUNDS[ROUNDS.index(SIXTH) :], (SEVENTH, EIGHTH)
"""Rounds that learn from hands_more and looking_down as well, and from what the finder takes for hands."""

AVERAGED = (FIFTH, SIXTH)
"""Rounds of which the middle of start and end ships."""

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
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
    # for the tenth round: what a narrow lens leaves out of view
    "narrow": {"clips": 2000, "frames": 16, "side": 320, "seed": 310, "lens": "pinhole"},
    "val": {"clips": 40, "frames": 32, "side": 512, "seed": 304, "samples": 3, "generated_share": 0.0},
    # more to set the error bars by: forty clips do not show how far errors go
    "bars": {"clips": 80, "frames": 32, "side": 512, "seed": 307, "samples": 3, "generated_share": 0.0},
    # chose neither weights nor error bars, and as large as real images
    "test": {"clips": 24, "frames": 32, "side": 1024, "seed": 305, "generated_share": 0.0},
}  # fmt: skip
