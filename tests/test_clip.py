"""Clip and Imu: what a recording may hold."""

from __future__ import annotations

import numpy as np
import pytest

from egopose import Clip, Imu, Trajectory
from egopose.errors import EgoposeError


def test_a_trajectory_alone_is_enough() -> None:
    clip = Clip(trajectory=Trajectory([0.0], np.eye(4)[None]))
    assert clip.path is None


def test_nothing_is_not_enough() -> None:
    with pytest.raises(EgoposeError, match="neither frames nor a trajectory"):
        Clip()


def test_paths_and_times_are_kept() -> None:
    clip = Clip(frames="a.mp4")
    assert clip.path is not None
    assert clip.path.name == "a.mp4"
    with pytest.raises(EgoposeError, match="increasing"):
        clip.replace(times_s=np.array([0.0, 0.0]))


def test_trajectory_must_be_one() -> None:
    with pytest.raises(EgoposeError, match="trajectory is a ndarray"):
        Clip(frames=[], trajectory=np.eye(4))  # type: ignore[arg-type]


def test_imu_shapes() -> None:
    Imu(np.arange(3.0), np.zeros((3, 3)), np.zeros((3, 3)))
    with pytest.raises(EgoposeError, match="acceleration has shape"):
        Imu(np.arange(3.0), np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(EgoposeError, match="increasing"):
        Imu(np.zeros(3), np.zeros((3, 3)), np.zeros((3, 3)))
