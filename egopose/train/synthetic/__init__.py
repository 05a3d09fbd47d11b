"""Rendered first-person clips: a body of our own asset, real or procedural motion, random rooms and lenses.

* :mod:`~egopose.train.synthetic.motion`: bone rotations from motion capture or from a generator, reaches, head mount.
* :mod:`~egopose.train.synthetic.fingers`: finger poses within joint limits.
* :mod:`~egopose.train.synthetic.world`: rooms, objects, light, clothes and skin.
* :mod:`~egopose.train.synthetic.lenses`: random cameras.
* :mod:`~egopose.train.synthetic.render`: images and labels of a clip.
* :mod:`~egopose.train.synthetic.dataset`: folders of clips, deterministic by seed, resumable.
* :mod:`~egopose.train.synthetic.layout`: the version of those.
* :mod:`~egopose.train.synthetic.preview`: sheets to look at.
* :mod:`~egopose.train.synthetic.demo_clip`: a clip as files.
"""
