"""``egopose clips`` and ``egopose submit``: labelled takes to training clips, test takes to a packed submission."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from egopose.commands.output import emit, progress_bar

Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")]


def clips(
    root: tyro.conf.Positional[Path],
    *,
    out: Path,
    labels: Path | None = None,
    source: Literal["manual", "automatic"] = "automatic",
    split: Literal["train", "val"] = "train",
    takes: Names = (),
    fps: float = 10.0,
    side: int = 288,
    cache: Path | None = None,
    json: bool = False,
) -> None:
    """Write labelled Ego-Exo4D takes as clips for egopose train (rendered: in its settings).

    Args:
        root: The folder that egoexo -o wrote, or a stand-in.
        out: Folder for the clips.
        labels: Folder that egopose label wrote; by default the shipped annotation.
        source: Which shipped annotation.
        split: Takes of this split.
        takes: Only these takes, by uid or name.
        fps: Frames per second kept of the video's 30.
        side: Width and height of the images, pixels.
        cache: Folder for the parsed annotations; by default the user's cache folder.
        json: Print one JSON object.
    """
    from egopose.ego_exo4d.clips import write_clips
    from egopose.ego_exo4d.dataset import EgoExo4D

    data = EgoExo4D(root, cache=cache)
    chosen = [data[key] for key in takes] if takes else data.select(split=split)
    with progress_bar("clips", quiet=json) as progress:
        result = write_clips(
            data, chosen, out, labels=labels, source=source, fps=fps, side=side, progress=progress
        )  # fmt: skip
    lines = [f"  {clip['clip']}  {clip['take_name']}" for clip in result["clips"]]
    lines += [f"  left out: {why}" for why in result["left_out"].values()]
    emit(result, "\n".join([f"{len(result['clips'])} clips in {out}", *lines]), json)


def submit(
    root: tyro.conf.Positional[Path],
    *,
    track: Literal["body", "hand"],
    out: Path,
    weights: str = "nano",
    index: Path | None = None,
    split: Literal["train", "val", "test"] = "test",
    device: str = "cpu",
    mode: str = "offline",
    cache: Path | None = None,
    json: bool = False,
) -> int:
    """Predict Ego-Exo4D takes for a track, write the submission, validate it and pack it.

    Args:
        root: The folder that egoexo -o wrote, or a stand-in.
        track: body (video and head poses in, world out) or hand (video in, landscape head camera out).
        out: The zip; the JSON file lies beside it.
        weights: Weights that come with the package, or a .safetensors file.
        index: What is asked for: the list of the challenge, or a ground truth file; only that is written.
        split: Takes to predict without an index.
        device: cpu, cuda, cuda:N or auto.
        mode: offline, causal, or the number of frames to look ahead.
        cache: Folder for the parsed annotations; by default the user's cache folder.
        json: Print one JSON object.

    Returns:
        0 it would be accepted, 1 it would not.
    """
    from egopose.ego_exo4d.dataset import EgoExo4D
    from egopose.ego_exo4d.prediction import predict_submission
    from egopose.predict import Predictor

    data = EgoExo4D(root, cache=cache)
    predictor = Predictor.from_pretrained(weights, device=device)
    with progress_bar("submit", quiet=json) as progress:
        result = predict_submission(
            data, data.select(split=split), track, predictor, out, index=index, progress=progress,
            mode=int(mode) if mode.isdigit() else mode,
        )  # fmt: skip
    ok = result["zip"] is not None
    found = [f"  {f['severity']} {f['code']}: {f['message']}" for f in result["report"].get("findings", [])[:10]]
    head = f"{len(result['takes'])} takes -> {result['zip'] if ok else result['json'] + ' (not packed)'}"
    emit(result, "\n".join([head, *found, f"send it to: {result['where']}"]), json)
    return 0 if ok else 1
