"""Reading and writing: one file per format behind one registry.

``load`` finds the format from the content and refuses ambiguity; ``save`` chooses it by suffix. A format is one
module that registers its reader and writer with the decorators of :mod:`egopose.io.registry`.
"""

from __future__ import annotations

# importing a module registers its format
from egopose.io import (  # noqa: F401
    anipose_toml,
    aria,
    c3d,
    caliscope_points,
    coco,
    ego_exo4d_annotation,
    ego_exo4d_cameras,
    ego_exo4d_labels,
    ego_exo4d_submission,
    native,
    native_rig,
    opencv_storage,
    openpose,
    panoptic,
    parquet,
    plain_csv,
    qualisys,
    stereo_dat,
    trc,
)
from egopose.io.checks import align_views, check_image_space, check_sizes, match_names
from egopose.io.registry import Format, detect, formats, get_format, load, save

__all__ = [
    "Format",
    "align_views",
    "check_image_space",
    "check_sizes",
    "detect",
    "formats",
    "get_format",
    "load",
    "match_names",
    "save",
]
