"""From a run to weights that ship: calibrated, with card and log, telling of earlier rounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from egopose.errors import EgoposeError
from egopose.model.weights import load_weights, save_weights
from egopose.skeleton import BODY17
from egopose.train.ship import halfway, recalibrate, ship, training_log
from egopose.train.stages import run_training
from egopose.train.windows import load_motion
from tests.test_train_loop import clips, config


def motion_file(path: Path, subjects: tuple[str, ...]) -> Path:
    """The clips of the training tests as a file of captured motion."""
    made = clips(len(subjects), 80)
    np.savez(
        path, joints=np.concatenate([c.joints[:, :17] for c in made]), joint_names=np.array(BODY17.joints),
        head_rot=np.concatenate([c.T_world_camera[:, :3, :3] for c in made]),
        head_pos=np.concatenate([c.T_world_camera[:, :3, 3] for c in made]),
        clip_ptr=np.arange(len(made) + 1) * 80, clip_name=np.array([c.name for c in made]),
        subject=np.array(subjects), tier=np.array(["A"] * len(made)), fps=np.float64(30),
    )  # fmt: skip
    assert len(load_motion(path)) == len(subjects)
    return path


def test_a_round_ships_with_its_card_and_keeps_what_is_told_of_the_last(tmp_path: Path) -> None:
    train, held = motion_file(tmp_path / "train.npz", ("a", "b")), motion_file(tmp_path / "val.npz", ("c",))
    folder, page = tmp_path / "weights", tmp_path / "log.md"
    folder.mkdir()
    with pytest.raises(EgoposeError, match="no stage has weights yet"):
        ship(tmp_path / "runs", [], folder, "nano", "first round", motion=held)
    for called, steps in (("first round", 6), ("second round", 4), ("second round", 3)):
        work = tmp_path / f"{called} {steps}"
        values = {
            "motion": [str(train)],
            "held_out_motion": [str(held)],
            "steps": steps,
            "eval_every": 2,
            "log_every": 1,
        }
        run_training(config(work / "motion", **values))
        text = ship(work, ["motion"], folder, "nano", called, motion=held)
        training_log(work, ["motion"], called, "this machine", page)
    assert "after stage motion" in text
    shipped = load_weights(folder / "nano.safetensors")
    stages = {name: record["steps"] for name, record in shipped.notes["stages"].items()}
    assert stages == {"motion, first round": 6, "motion, second round": 3}
    assert shipped.notes["trained"] == ["body"]
    assert (shipped.state["sigma_factor"][0, :17] != 1).any()
    card = (folder / "nano.md").read_text()
    assert f"`{shipped.sha256}`" in card
    assert "motion, second round: 3 steps" in card
    assert "image and hand encoders are not trained" in card
    assert not list(folder.glob(".half*"))
    log = page.read_text()
    assert [line for line in log.splitlines() if line.startswith("## ")] == [
        "## Stage motion, first round", "## Stage motion, second round",
    ]  # fmt: skip
    assert "6 steps, 0 minutes of training on this machine." in log
    assert "4 steps, " not in log
    assert log.count("| step | minutes |") == 2


def test_error_bars_are_set_anew_and_nothing_else(tmp_path: Path) -> None:
    train, held = motion_file(tmp_path / "train.npz", ("a", "b")), motion_file(tmp_path / "val.npz", ("c",))
    values = {"motion": [str(train)], "held_out_motion": [str(held)], "steps": 2, "eval_every": 1, "log_every": 1}
    run_training(config(tmp_path / "run" / "motion", **values))
    folder = tmp_path / "weights"
    folder.mkdir()
    ship(tmp_path / "run", ["motion"], folder, "nano", "first round", motion=held)
    path = folder / "nano.safetensors"
    before = load_weights(path)
    spoilt = before.model()
    spoilt.sigma_factor.mul_(3)  # type: ignore[operator]
    save_weights(path, spoilt, notes=before.notes)
    text = recalibrate(folder, "nano", motion=held)
    after = load_weights(path)
    assert "coverage50" in text
    assert after.notes["stages"] == before.notes["stages"]
    assert f"`{after.sha256}`" in (folder / "nano.md").read_text()
    for name, value in before.state.items():
        if name == "sigma_factor":
            torch.testing.assert_close(after.state[name], value, rtol=0.02, atol=0)
        else:
            torch.testing.assert_close(after.state[name], value, rtol=2e-3, atol=1e-4)
    save_weights(path, spoilt, notes={**before.notes, "trained": ["body", "hands", "images"]})
    with pytest.raises(EgoposeError, match="takes rendered clips"):
        recalibrate(folder, "nano", motion=held)


def test_what_ships_can_lie_halfway_from_where_a_run_started(tmp_path: Path) -> None:
    train, held = motion_file(tmp_path / "train.npz", ("a", "b")), motion_file(tmp_path / "val.npz", ("c",))
    values = {"motion": [str(train)], "held_out_motion": [str(held)], "eval_every": 1, "log_every": 1}
    run_training(config(tmp_path / "first" / "motion", **values, steps=2))
    before = tmp_path / "first" / "motion" / "best.safetensors"
    later = config(tmp_path / "second" / "motion", **values, steps=3, init=str(before))
    run_training(later)
    start = load_weights(before).state
    end = torch.load(tmp_path / "second" / "motion" / "checkpoint.pt", weights_only=True)["ema"]
    middle = halfway(before, tmp_path / "second" / "motion").state_dict()
    moved = [name for name in start if not torch.equal(start[name], end[name])]
    assert moved
    for name in moved:
        torch.testing.assert_close(middle[name].float(), 0.5 * (start[name].float() + end[name].float()))
    part = moved[0].split(".")[0]
    kept = halfway(before, tmp_path / "second" / "motion", (part,)).state_dict()
    for name in moved:
        wanted = end[name] if name.startswith(part) else middle[name]
        torch.testing.assert_close(kept[name].float(), wanted.float())
    folder = tmp_path / "weights"
    folder.mkdir()
    ship(tmp_path / "second", ["motion"], folder, "nano", "second round", motion=held, before=before)
    shipped = load_weights(folder / "nano.safetensors")
    assert shipped.notes["halfway_from"] == load_weights(before).sha256
    assert shipped.notes["picked_at_step"] == 3
    for name in moved:
        torch.testing.assert_close(shipped.state[name].float(), middle[name].float(), rtol=1e-3, atol=1e-3)
    with pytest.raises(EgoposeError, match="finish the run first"):
        halfway(before, tmp_path / "nothing")
