"""Compiled kernels: Numba and NumPy only, plain arrays in and out, no input checks.

* ``projection``: camera models, points to pixels and back, with exact derivatives; ``distortion``: the lens maps
  behind them, their inverses and valid ranges.
* ``dlt``, ``robust``, ``triangulation``: rays of many cameras to 3D points, with outliers; ``official``: the same by
  the rule of the published annotations; ``hands``, ``sides``: which views to trust, which side is which;
  ``timing``: which moment a view saw; ``adjustment``: cameras, joints and clocks together.
* ``smoothing``: joints over time; ``bones``: joints along the body; both with covariances.
* ``procrustes``: alignment of frames; ``tiles``, ``simd``: frames side by side for vector units.
* ``skinning``, ``rasterise``, ``imaging``: a body from its bones, a picture of it through any lens, as stored.
* ``json_scan``, ``json_cells``, ``json_number``: annotation files straight into tables.

The public functions above the kernels check shapes, types and finiteness; call those unless you need the raw
speed. Importing this package imports nothing: take the module that you need.

Compiled code is cached beside the sources. A cached caller does not notice that a kernel it calls in *another* file
has changed: after editing a kernel, delete ``kernels/__pycache__``.
"""
