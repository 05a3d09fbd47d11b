"""The MediaPipe Holistic pipeline on a video, as a peer of benchmarks/predict.py; runs in an environment of its own.

Usage: PYTHON benchmarks/holistic_peer.py CLIP SKIP

PYTHON is an interpreter with ``pip install mediapipe==0.10.21 av``. Prints one JSON object: seconds of each frame from
asking the decoder for it to the answer, without the first SKIP, peak memory, and in how many frames what was found.
"""

import json
import os
import sys
import time


def main() -> None:
    """Run on one core, so that every thread pool inside has to share it."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import av
    import mediapipe

    path, skip = sys.argv[1], int(sys.argv[2])
    found = {"pose": 0, "left_hand": 0, "right_hand": 0}
    seconds = []
    with mediapipe.solutions.holistic.Holistic(model_complexity=1) as pipeline, av.open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        frames = container.decode(video=0)
        while True:
            start = time.perf_counter()
            frame = next(frames, None)
            if frame is None:
                break
            result = pipeline.process(frame.to_ndarray(format="rgb24"))
            seconds.append(time.perf_counter() - start)
            for name in found:
                found[name] += getattr(result, f"{name}_landmarks") is not None
    with open("/proc/self/status") as status:
        peak = next(line for line in status if line.startswith("VmHWM"))
    memory = int(peak.split()[1]) / 1024
    print(json.dumps({"seconds": seconds[skip:], "peak_memory_mb": memory, "found": found, "frames": len(seconds)}))


if __name__ == "__main__":
    main()
