"""Contact sheets of rendered clips."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from egopose import rigid
from egopose.config import load_config
from egopose.errors import EgoposeError
from egopose.skeleton import BODY17_HANDS
from egopose.train.rendered_files import load_rendered
from egopose.train.synthetic.dataset import SynthConfig, build
from egopose.train.synthetic.preview import HIDDEN, SEEN, UNKNOWN, contact_sheet, labelled_frame


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    settings = {"clips": 2, "frames": 4, "side": 96, "samples": 1, "seed": 3, "hands_up": 1.0, "lens": "kannala_brandt"}
    build(load_config(SynthConfig, None, **settings), folder)
    return load_rendered(folder)


def test_joints_are_drawn_where_they_project(clips):
    clip = clips[0]
    picture = labelled_frame(clip, 1, scale=3)
    assert picture.shape == (288, 288, 3)
    points = rigid.transform_points(rigid.invert(clip.T_world_camera[1]), clip.joints[1])
    uv = (clip.camera.project(points, frame="camera") + 0.5) * 3 - 0.5
    colours = np.array([SEEN, HIDDEN, UNKNOWN])
    checked = 0
    for j in range(BODY17_HANDS.n_joints):
        if np.isfinite(uv[j]).all() and (uv[j] > 1).all() and (uv[j] < 286).all():
            column, row = np.round(uv[j]).astype(int)
            # a later joint may cover it, but some joint's colour is there
            assert (np.abs(picture[row, column].astype(int) - colours).max(axis=1) < 60).any()
            checked += 1
    assert checked > 5


def test_sheet_has_a_row_per_clip(clips, tmp_path):
    path = contact_sheet(clips, tmp_path / "sheet.png", columns=4)
    sheet = cv2.imread(str(path))[..., ::-1]
    assert sheet.shape == (2 * 98, 4 * 96, 3)
    np.testing.assert_array_equal(sheet[:96, :96], clips[0].images[0])
    np.testing.assert_array_equal(sheet[98:194, :96], clips[1].images[0])
    assert (sheet[:96, 96:192] != clips[0].images[1]).any()
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


def test_nothing_to_show_and_bad_names_are_refused(clips, tmp_path):
    with pytest.raises(EgoposeError, match="0 clips"):
        contact_sheet([], tmp_path / "sheet.png")
    with pytest.raises(EgoposeError, match="png"):
        contact_sheet(clips, tmp_path / "sheet.nothing")
