"""``egopose label``: labels of Ego-Exo4D takes from exo videos or 2D joints, and how they agree with the shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import tyro

from egopose.commands.output import Progress, emit, progress_bar
from egopose.errors import EgoposeError
from egopose.files import write_json

Kinds = Literal["body", "hand", "both"]


def run_label(
    root: str | Path,
    out: str | Path,
    kind: Kinds = "both",
    *,
    detector: str | None = "blazepose",
    takes: tuple[str, ...] = (),
    split: str | None = None,
    workers: int | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Label takes and write ``report.json`` beside the labels.

    Args:
        root: The dataset.
        out: Root of the written layout.
        kind: "body", "hand" or "both".
        detector: Of the 2D joints in the exo videos; None takes the shipped automatic 2D.
        takes: Uids or names; empty = all of the split that can be labelled.
        split: "train", "val" or "test"; None = all.
        workers: Processes; None = every core, 0 = this one.
        cache: Folder of the index of annotations.
        progress: Called with the share done and the take.

    Raises:
        EgoposeError: No such take or split, or no take was left.
    """
    from egopose.ego_exo4d.dataset import EgoExo4D
    from egopose.ego_exo4d.labels import label
    from egopose.ego_exo4d.layout import KINDS

    data = EgoExo4D(root, cache=cache)
    result: dict[str, Any] = {"out": str(out), "detector": detector, "kinds": {}}
    kinds = [name for name in KINDS if kind in ("both", name)]
    for i, name in enumerate(kinds):
        chosen = [data[key] for key in takes] if takes else data.select(split=split)
        if detector is None and not takes:
            chosen = [take for take in chosen if take.annotated(name, "automatic")]
        if not chosen:
            raise EgoposeError(f"{root}: no take to label ({name}, split {split or 'any'}); give others or a detector")

        def tell(share: float, what: str, i: int = i, name: str = name) -> None:
            if progress is not None:
                progress((i + share) / len(kinds), f"{name}: {what}")

        result["kinds"][name] = label(data, chosen, name, out, detector=detector, workers=workers, progress=tell)
    write_json(Path(out) / "report.json", result)
    return result


def label_text(result: dict[str, Any]) -> str:
    """A line per take: what was labelled and how far the shipped automatic labels are."""
    lines = []
    for kind, done in result["kinds"].items():
        lines.append(f"{kind:<5} {'take':<32} {'cameras':>7} {'frames':>7} {'joints':>8}  against the shipped labels")
        for row in done["takes"]:
            a = row.get("agreement")
            text = "none shipped"
            if a is not None and a["median_mm"] is not None:
                text = (
                    f"median {a['median_mm']:.1f} mm, 90 % within {a['p90_mm']:.1f} mm, only ours "
                    f"{100 * a['only_ours']:.1f} %, only theirs {100 * a['only_theirs']:.1f} %"
                )
            lines.append(
                f"      {row['take_name']:<32} {len(row['cameras']):>7} {row['frames']:>7} {row['joints']:>8}  {text}"
            )
            lines += [f"        note: {note}" for note in row["notes"]]
        lines += [f"      {name}: not labelled: {why}" for name, why in done["failed"].items()]
    return "\n".join([*lines, f"labels and report.json in {result['out']}"])


def label(
    root: tyro.conf.Positional[Path],
    *,
    out: Path,
    kind: Kinds = "both",
    detector: str = "blazepose",
    takes: tuple[str, ...] = (),
    split: Literal["train", "val", "test"] | None = None,
    workers: int | None = None,
    cache: Path | None = None,
    json: bool = False,
) -> int:
    """Label Ego-Exo4D takes in the layout of the shipped automatic annotation; run again, it goes on.

    Args:
        root: The folder that egoexo -o wrote, or a stand-in.
        out: Folder for the labels; not the dataset itself.
        kind: body, hand or both.
        detector: 2D detector for the exo videos, or "shipped" to triangulate the shipped automatic 2D.
        takes: Only these takes, by uid or name.
        split: Only this split.
        workers: Processes, a take each; by default one per core, 0 runs in this process.
        cache: Folder for the parsed annotations; by default the user's cache folder.
        json: Print one JSON object.

    Returns:
        0, or 1 when a take could not be labelled.
    """
    with progress_bar("label", quiet=json) as progress:
        result = run_label(
            root, out, kind, detector=None if detector == "shipped" else detector, takes=takes, split=split,
            workers=workers, cache=cache, progress=progress,
        )  # fmt: skip
    emit(result, label_text(result), json)
    return int(any(done["failed"] for done in result["kinds"].values()))
