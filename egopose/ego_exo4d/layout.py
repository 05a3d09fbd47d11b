"""Where the files of the dataset lie, and which part of its downloader brings them."""

from __future__ import annotations

from typing import Literal

Kind = Literal["body", "hand"]
Source = Literal["manual", "automatic"]
SPLITS = ("train", "val", "test")
KINDS: tuple[Kind, ...] = ("body", "hand")
SOURCES: tuple[Source, ...] = ("manual", "automatic")
FOLDERS = {"manual": "annotation", "automatic": "automatic"}
EGO_POSE = "annotations/ego_pose"
FPS = 30.0
"""Of the frame-aligned videos; the frame numbers of every file count their frames."""

PARTS = {
    "takes.json": "metadata",
    "captures.json": "metadata",
    "annotations/splits.json": "annotations",
    "camera_pose": "annotations --benchmarks egopose",
    "manual": "annotations --benchmarks egopose",
    "automatic": "ego_pose_pseudo_gt",
    "gopro_calibs.csv": "take_trajectory",
    "closed_loop_trajectory.csv": "take_trajectory",
    "online_calibration.jsonl": "take_trajectory",
    "timesync.csv": "captures",
    "videos": "takes (or downscaled_takes/448)",
}
"""What is missing -> argument of ``egoexo -o ROOT --parts ...``."""

SCENARIOS = {
    1: "cooking", 2: "health", 3: "campsite", 4: "bike", 5: "music", 6: "basketball", 7: "bouldering", 8: "soccer",
    9: "dance",
}  # fmt: skip
"""First digit of a task number."""


def annotation_path(split: str, kind: str, source: str, uid: str) -> str:
    """Path of an annotation under the root; source "manual" or "automatic"."""
    return f"{EGO_POSE}/{split}/{kind}/{FOLDERS[source]}/{uid}.json"


def camera_pose_path(split: str, uid: str) -> str:
    """Path of a camera_pose file under the root."""
    return f"{EGO_POSE}/{split}/camera_pose/{uid}.json"
