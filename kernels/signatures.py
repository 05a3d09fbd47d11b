"""Types with which the package calls its kernels, for :mod:`egopose.kernels.warmup`.

One line per call: module.function, then the arguments as NumPy codes (f8, i8, u1, b1); arrays carry their number of
dimensions and their layout (``f82C``: two-dimensional, contiguous), ``!`` marks read-only ones.
"""

from __future__ import annotations

SIGNATURES = """\
distortion.brown_radial f81C f8
distortion.angle_map f81C i8 f8
distortion.invert_angle f81C i8 f8 f8
distortion.fold_radius i8 f81C f8 i8 i8
projection.project_batch i8 f81C f82C f82C b11C
projection.unproject_batch i8 f81C f82C f82C b11C
projection.jacobian_batch i8 f81C f82C f82C f83C b11C
projection.project_points i81C f82C f83C f82C f83C b12C
dlt.normalise_pixels i8 f81C f82C f82C
dlt.linear_points f83C f81C f83C f82C f82C f83C f81C
triangulation.robust_points i81C f82C f83C f83C f82C f8 f8 f8 i8 f8 i8 i8 f82C f83C b12C f81C u11C f82C
triangulation.linear_status f83C f83C f82C f82C f8 i8 b12C u11C
official.official_points f83C f83C f82C f8 f82C f83C b12C f81C i8 i8
hands.vote f82C f84C f81C f8 f8 i81C f81C f8 f82C f8 b12C i8 i8
sides.pair_costs f82C f83C f83C f81C b12C f8 f82C i8 i8
sides.best_path f82C f82C i81C
timing.pair_profile f81C f83C f83C f8 f8 i81C i81C i81C f8 f8 i8 f8 f81C f81C
adjustment.robust_cost i81C f82C f83C f82C f82C f81C f83C f82C f8
adjustment.normal_equations i81C f82C f83C f82C f82C f81C f83C f82C f8 b1 b1 f8 f82C f81C f83C f82C f83C
people.pair_costs f82C f83C i81C i81C f8 i8 f82C
people.track_costs f81C f83C f83C i81C f8 i8 f83C
people.meet f82C f83C f8 f8 f82C f81C
bones.bones_in_frames f83C f84C f83C i81C i81C f81C f81C i8 i8
smoothing.smooth_joints f81C f83C f84C f81C f8 i8 f8 f8 i8 f83C f84C f82C
smoothing.held_out f82C f83C f81C f82C f83C
smoothing.smooth_joint f81C f82C f83C f81C f8 f8 f8 i8 f82C f83C
rasterise.project_vertices i8 f81C f82C f82C f8 f82C
rasterise.fill f82C i82C f82C i42C f83C
rasterise.shade i42C f83C i82C f82C f82C i81C f83C i81C f81C i81C f81C f82C f81C f43C
rasterise.angle_mask i8 f81C i8 i8 f8 b12C
rasterise.seen f82C f82C f81C b11C
skinning.chain_joints i81C f82C f83C f81C f82C
skinning.skin f82C i82C f82C f82C f83C f82C f82C
skinning.vertex_normals f82C i82C f82C
json_scan.scan_rows u11C! i8 i8 u82C f82C i82C i82C i82C i81C
json_cells.gather_numbers u82C f82C i81C i81C f82C i82C
json_cells.whole_numbers u11C! i82C i8 i81C
json_cells.match_strings u11C! u82C i81C i81C u11C! u1 u12C
"""
