"""Numbers that can be trusted: pure functions over (N, J, 3) arrays, and the official protocols.

A joint counts when ``valid`` is true and its target is finite. A prediction that is not finite at a counted joint
makes its frame NaN. A frame with no counted joint is NaN and stays out of means. Arithmetic is float64; the unit of the
input comes out. ``reduce`` is "none" (per frame), "joint", "micro" (over counted joints) or "macro" (over frames).

Beside the functions here:

* :mod:`~egopose.metrics.accumulate`: every metric of many takes in one pass, sums that merge exactly.
* :mod:`~egopose.metrics.compare`: intervals by bootstrap over takes, paired comparison of two predictions.
* :mod:`~egopose.metrics.calibration`: coverage, and whether predicted sigmas are honest.
* :mod:`~egopose.metrics.physical`: bones, feet, contacts.
* :mod:`~egopose.metrics.compat`: the numbers of other code bases, and how they differ.
* :mod:`~egopose.metrics.protocols`: the official evaluators over files.
"""

from __future__ import annotations

from egopose.metrics.aligned import pa_mpjpe
from egopose.metrics.curves import auc, pck
from egopose.metrics.distances import mpjpe, n_mpjpe
from egopose.metrics.motion import accel_error, jitter, mpjve
from egopose.metrics.segments import rte, w_mpjpe, wa_mpjpe

__all__ = [
    "accel_error",
    "auc",
    "jitter",
    "mpjpe",
    "mpjve",
    "n_mpjpe",
    "pa_mpjpe",
    "pck",
    "rte",
    "w_mpjpe",
    "wa_mpjpe",
]
