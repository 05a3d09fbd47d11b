"""Compiled kernels: Numba and NumPy only, plain arrays in and out, no input checks.

* :mod:`~egopose.kernels.projection`: camera models, points to pixels and back, with exact derivatives.
* :mod:`~egopose.kernels.distortion`: the lens maps behind them, their inverses and valid ranges.
* :mod:`~egopose.kernels.dlt`, :mod:`~egopose.kernels.triangulation`: rays of many cameras to 3D points.
* :mod:`~egopose.kernels.distance`, :mod:`~egopose.kernels.procrustes`, :mod:`~egopose.kernels.motion`: metrics.
* :mod:`~egopose.kernels.smoothing`: joints over time and bones within a frame, with covariances.
* :mod:`~egopose.kernels.rasterise`: bodies to pixels.
* :mod:`~egopose.kernels.warmup`: compiles all of them ahead of time.

The public functions above the kernels check shapes, types and finiteness; call those unless you need the raw
speed. Importing this package imports nothing: take the module that you need.
"""
