"""Remembered clips: what comes of them is what comes of their images, and what learns from them does not look."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from egopose.errors import EgoposeError
from egopose.model.hand_head import HandEstimate
from egopose.model.network import EgoPoseNet, build
from egopose.model.records import Decoded
from egopose.model.weights import load_weights, save_weights
from egopose.train.batch import stack
from egopose.train.config import TrainConfig
from egopose.train.loop import Trainer
from egopose.train.remembered import LOOKED, RememberedSource, remember
from egopose.train.rendered_files import load_rendered
from egopose.train.stages import run_training
from egopose.train.synthetic.dataset import SynthConfig
from egopose.train.synthetic.dataset import build as build_clips
from tests.nets import TINY, shake
from tests.test_train_loop import config
from tests.test_train_rendered import rendered


@pytest.fixture(scope="module")
def model() -> EgoPoseNet:
    return shake(build(TINY, 3)).eval()


def settings(**values: object) -> TrainConfig:
    calm = {"image_drop": 0.0, "hand_drop": 0.0, "rendered_head_drop": 0.0, "floor_drop": 0.0}
    out = Path(str(values.pop("out", "run")))
    return config(out, stage="join", rendered_window=4, rendered_batch=3, **{**calm, **values})


def test_what_is_remembered_is_what_the_images_say(
    model: EgoPoseNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # every crop counts, whatever it shows
    monkeypatch.setattr("egopose.train.remembered.SURE", -1e9)
    clips, told = [rendered()], settings()
    remember(model, "abc", clips, told, tmp_path)
    source = RememberedSource(clips, told, tmp_path, weights="abc")
    fresh = RememberedSource(clips, told)
    for index in range(2):
        looked, kept = (
            stack([of.window(index, np.random.default_rng((told.seed, LOOKED, index)), whole=True)])
            for of in (fresh, source)
        )
        assert kept.frames.image is None
        assert kept.frames.hands is None
        blank = replace(kept.frames, decoded=blanked(kept.frames.decoded))
        with torch.inference_mode():
            wanted, got, without = (
                model(frames, looked.rotation, looked.first, looked.rest)[0]
                for frames in (looked.frames, kept.frames, blank)
            )
        # features are kept as float16
        torch.testing.assert_close(got.xyz, wanted.xyz, rtol=0, atol=4e-3)
        torch.testing.assert_close(got.log_scale, wanted.log_scale, rtol=0, atol=3e-2)
        assert (wanted.xyz - without.xyz).abs().max() > 2e-2


def blanked(decoded: Decoded | None) -> Decoded:
    """The same with zeros in it."""
    assert decoded is not None
    assert decoded.hands is not None
    hands = HandEstimate(*(torch.zeros_like(part) for part in decoded.hands))
    return Decoded(torch.zeros_like(decoded.queries), torch.zeros_like(decoded.body), hands, decoded.logit)  # type: ignore[arg-type]


def test_whole_clips_are_looked_at_with_images_and_hands_whatever_windows_drop(
    model: EgoPoseNet, tmp_path: Path
) -> None:
    clips = [rendered()]
    remember(model, "abc", clips, settings(), tmp_path / "calm")
    dropping = settings(image_drop=0.9, hand_drop=0.9)
    remember(model, "abc", clips, dropping, tmp_path / "dropping")
    calm, other = (np.load(tmp_path / name / "part_0000.npz") for name in ("calm", "dropping"))
    np.testing.assert_array_equal(calm["queries"], other["queries"])
    windows = RememberedSource(clips, dropping, tmp_path / "dropping").batch(0).frames
    assert windows.image_known is not None
    assert not windows.image_known.all()


def test_it_goes_on_where_it_was_stopped_and_in_processes_side_by_side(
    model: EgoPoseNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egopose.train.remembered.PART", 1)
    clips, told = [rendered()], settings()
    remember(model, "abc", clips, told, tmp_path / "all")
    for k in range(2):
        remember(model, "abc", clips, told, tmp_path / "two", share=(k, 2))
        assert len(list((tmp_path / "two").iterdir())) == k + 1
    for name in ("part_0000.npz", "part_0001.npz"):
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    (tmp_path / "two" / "part_0001.npz").unlink()
    kept = (tmp_path / "two" / "part_0000.npz").stat().st_mtime_ns
    remember(model, "abc", clips, told, tmp_path / "two")
    assert (tmp_path / "two" / "part_0000.npz").stat().st_mtime_ns == kept
    assert (tmp_path / "two" / "part_0001.npz").exists()
    # other weights look anew
    remember(model, "abcd", clips, told, tmp_path / "two")
    assert (tmp_path / "two" / "part_0000.npz").stat().st_mtime_ns > kept


def test_hands_that_do_not_look_like_any_are_not_known(
    model: EgoPoseNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sure, known in ((-1e9, True), (1e9, False)):
        monkeypatch.setattr("egopose.train.remembered.SURE", sure)
        remember(model, str(sure), [rendered()], settings(), tmp_path)
        assert np.load(tmp_path / "part_0000.npz")["known"].any() == known


def test_only_what_joins_learns(model: EgoPoseNet, tmp_path: Path) -> None:
    clips, told = [rendered()], settings(steps=2, train_only=("fuse_body", "heads.shown"), out=str(tmp_path / "run"))
    remember(model, "abc", clips, told, tmp_path / "seen")
    trainer = Trainer(told, RememberedSource(clips, told, tmp_path / "seen"))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    numbers = [trainer.train_step() for _ in range(2)]
    assert all(np.isfinite(n["loss"]) for n in numbers)
    changed = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    assert "fuse_body.weight" in changed
    assert all(name.startswith(("fuse_body", "heads.shown")) for name in changed)


def test_the_stage_runs_from_folders_and_resumes(model: EgoPoseNet, tmp_path: Path) -> None:
    seen, held = tmp_path / "seen", tmp_path / "held"
    for folder, seed in ((seen, 1), (held, 2)):
        build_clips(SynthConfig(clips=2, frames=6, side=48, samples=1, seed=seed), folder)
    save_weights(tmp_path / "start.safetensors", model)
    values: dict[str, object] = {
        "rendered": [str(seen)], "held_out_rendered": [str(held)], "remembered": str(tmp_path / "remembered"),
        "init": str(tmp_path / "start.safetensors"), "train_only": ["fuse_body", "temporal"],
        "steps": 4, "eval_every": 4, "save_every": 2,
    }  # fmt: skip
    told = settings(out=tmp_path / "whole", **values)
    with pytest.raises(EgoposeError, match=r"remembered/part_0000\.npz"):
        run_training(told)
    start = load_weights(tmp_path / "start.safetensors")
    remember(start.model(), start.sha256, load_rendered(seen), told, tmp_path / "remembered")
    with pytest.raises(EgoposeError, match="stage 'join' needs remembered: a folder"):
        run_training(msgspec.structs.replace(told, remembered=None))
    done = run_training(told)
    assert done["step"] == 4
    assert np.isfinite(done["best"])
    parted = settings(out=tmp_path / "parted", **values)
    run_training(parted, until=2)
    assert run_training(parted)["resumed"]
    whole, again = (load_weights(tmp_path / name / "best.safetensors").state for name in ("whole", "parted"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    changed = {name for name in whole if not torch.equal(whole[name], start.state[name])}
    assert any(name.startswith("fuse_body") for name in changed)
    assert all(name.startswith(("fuse_body", "temporal")) for name in changed)


def test_what_belongs_to_something_else_is_refused(model: EgoPoseNet, tmp_path: Path) -> None:
    clip, told = rendered(), settings()
    remember(model, "abc", [clip], told, tmp_path)
    RememberedSource([clip], told, tmp_path, weights="abc")
    others = (
        ([replace(clip, name="other")], told, "abc", "other clips"),
        ([clip], settings(seed=5), "abc", "other settings"),
        ([clip], settings(rendered_head_drop=0.5), "abc", "other settings"),
        ([clip], told, "abcd", "other weights"),
        ([clip], settings(model={**msgspec.to_builtins(TINY), "dim": 48, "heads": 3}), "abc", "other network"),
    )
    for clips, wanted, weights, why in others:
        with pytest.raises(EgoposeError, match=f"{why} than are trained with; remove .* look at the clips anew"):
            RememberedSource(clips, wanted, tmp_path, weights=weights)
    path = tmp_path / "part_0000.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EgoposeError, match=r"part_0000\.npz: cannot be read as remembered frames"):
        RememberedSource([clip], told, tmp_path)
    path.unlink()
    with pytest.raises(EgoposeError, match=r"part_0000\.npz"):
        RememberedSource([clip], told, tmp_path)
