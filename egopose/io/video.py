"""Videos through PyAV: real time stamps, display rotation, lazy frames, H.264 out.

Frames are numbered in presentation order from 0. Times are the stream's own presentation time stamps in seconds,
not the frame number over a nominal rate. Images are RGB and turned upright as the file's display matrix says.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.files import atomic_path

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mts", ".ts")
_ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "mpeg4")


@dataclass(frozen=True)
class VideoInfo:
    """What a video is.

    Attributes:
        path: The file.
        size: (width, height) of the upright image.
        stored_size: (width, height) before the display rotation.
        rotation_deg: Quarter turns, counter-clockwise degrees (0, 90, 180, 270), that bring the stored image upright.
        fps: Average frame rate, from the time stamps.
        n_frames: Number of frames.
        times_s: (N,) float64 presentation times.
        codec: Name of the codec.
    """

    path: Path
    size: tuple[int, int]
    stored_size: tuple[int, int]
    rotation_deg: int
    fps: float
    n_frames: int
    times_s: NDArray[np.float64]
    codec: str

    @property
    def duration_s(self) -> float:
        """From the first frame to the end of the last."""
        return self.n_frames / self.fps


@dataclass(frozen=True)
class VideoFrame:
    """One image: its number from 0, its time in seconds, and (H, W, 3) uint8 RGB.

    ``whole`` is False where the decoder made up parts of the image because the file is damaged there.
    """

    index: int
    time_s: float
    image: NDArray[np.uint8]
    whole: bool = True


def _av() -> ModuleType:
    import av

    return av


@contextlib.contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream, with errors in our words."""
    av = _av()
    path = Path(path)
    if not path.is_file():
        raise EgoposeError(f"{path}: there is no such file; expected a video")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise EgoposeError(f"{path}: has no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except EgoposeError:
        raise
    except (av.error.FFmpegError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, av.error.DecoderNotFoundError):
            raise EgoposeError(f"{path}: its codec is not known here; convert the video to H.264") from error
        raise EgoposeError(f"{path}: not readable as a video ({reason}); the file is truncated or damaged") from error


def _stamps(container: Any, stream: Any) -> NDArray[np.int64]:
    """Presentation stamps of all packets, in presentation order, without decoding."""
    stamps = [p.pts for p in container.demux(stream) if p.pts is not None and not _discarded(p)]
    return np.unique(np.array(stamps, dtype=np.int64))


def _discarded(packet: Any) -> bool:
    return bool(getattr(packet, "is_discard", False) or getattr(packet, "is_corrupt", False))


def _decoded(container: Any, stream: Any, past_damage: bool) -> Iterator[Any]:
    """Frames in presentation order; what cannot be decoded ends them, or is passed over."""
    if not past_damage:
        yield from container.decode(stream)
        return
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except _av().error.InvalidDataError:
            continue
        yield from frames


def _first(container: Any, stream: Any, path: str | os.PathLike[str]) -> Any:
    frame = next(_decoded(container, stream, past_damage=True), None)
    if frame is None:
        raise EgoposeError(f"{path}: no frame can be decoded; the file is truncated or damaged")
    return frame


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Size, rate, rotation and all time stamps of a video; one frame is decoded.

    Raises:
        EgoposeError: Not a video, or no frame in it.
    """
    with _open(path) as (container, stream):
        frame = _first(container, stream, path)
        stored = (int(frame.width), int(frame.height))
        rotation = _quarter(frame)
        codec = str(stream.codec_context.name)
        nominal = float(stream.average_rate or stream.guessed_rate or 30)
        base = float(stream.time_base)
    with _open(path) as (container, stream):
        times: NDArray[np.float64] = _stamps(container, stream).astype(np.float64) * base
    if times.size == 0:
        raise EgoposeError(f"{path}: no packet has a time stamp; convert the video to mp4")
    fps = (times.size - 1) / (times[-1] - times[0]) if times.size > 1 else nominal
    size = (stored[1], stored[0]) if rotation in (90, 270) else stored
    return VideoInfo(Path(path), size, stored, rotation, float(fps), times.size, times, codec)


def _quarter(frame: Any) -> int:
    return int(round(float(getattr(frame, "rotation", 0) or 0) / 90) * 90) % 360


def upright(image: NDArray[np.uint8], rotation_deg: int) -> NDArray[np.uint8]:
    """An image turned counter-clockwise by quarter turns."""
    return np.ascontiguousarray(np.rot90(image, rotation_deg // 90 % 4)) if rotation_deg else image


def read_frames(
    path: str | os.PathLike[str],
    *,
    start: int = 0,
    stop: int | None = None,
    step: int = 1,
    rotate: bool = True,
    past_damage: bool = False,
) -> Iterator[VideoFrame]:
    """Decode frames one by one.

    Args:
        path: The video.
        start: First frame.
        stop: The frame after the last, or None for the end.
        step: Every how many frames.
        rotate: Turn images upright as the file says.
        past_damage: Go on behind frames that cannot be decoded; they keep their numbers and are not yielded.

    Yields:
        Frames in order.

    Raises:
        EgoposeError: Not a video, damaged in between (unless ``past_damage``), or a bad range.
    """
    if start < 0 or step < 1 or (stop is not None and stop < start):
        raise EgoposeError(f"{path}: frames {start} to {stop} by {step} cannot be read; expected 0 <= start <= stop")
    with _open(path) as (container, stream):
        base = float(stream.time_base)
        nominal = float(stream.average_rate or stream.guessed_rate or 30)
        index, first_stamp = 0, None
        stamps = np.empty(0, np.int64)
        if past_damage:
            with _open(path) as again:
                stamps = _stamps(*again)
        if start > 0:
            if not past_damage:
                stamps = _stamps(container, stream)
            if start >= stamps.size:
                raise EgoposeError(f"{path}: frame {start} is not there; the video has {stamps.size} frames")
            index, first_stamp = start, int(stamps[start])
            container.seek(first_stamp, stream=stream, backward=True)
        for frame in _decoded(container, stream, past_damage):
            if first_stamp is not None:
                if frame.pts is None or frame.pts < first_stamp:
                    continue
                first_stamp = None
            if past_damage and frame.pts is not None:
                index = int(np.searchsorted(stamps, frame.pts))
            if stop is not None and index >= stop:
                return
            if (index - start) % step == 0:
                image = frame.to_ndarray(format="rgb24")
                if rotate:
                    image = upright(image, _quarter(frame))
                time = index / nominal if frame.pts is None else frame.pts * base
                yield VideoFrame(index, float(time), image, not frame.is_corrupt)
            index += 1


class VideoWriter:
    """Write an H.264 video; the file appears complete when the block ends, or not at all.

    Example::

        with VideoWriter("out.mp4", fps=30) as video:
            for image in images:
                video.add(image)
    """

    def __init__(self, path: str | os.PathLike[str], fps: float, *, crf: int = 20) -> None:
        """Prepare; the first image sets the size.

        Args:
            path: The file, usually ``.mp4``.
            fps: Frame rate.
            crf: Quality of x264: smaller is better and larger.

        Raises:
            EgoposeError: ``fps`` is not a positive number.
        """
        if not (np.isfinite(fps) and fps > 0):
            raise EgoposeError(f"fps is {fps}; expected a positive number")
        self.path, self.fps, self.crf, self.n_frames = Path(path), float(fps), crf, 0
        self._stack = contextlib.ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, int] | None = None

    def __enter__(self) -> VideoWriter:
        self._temporary = self._stack.enter_context(atomic_path(self.path))
        return self

    def _start(self, width: int, height: int) -> None:
        av = _av()
        encoder = next((name for name in _ENCODERS if name in av.codecs_available), "mpeg4")
        suffix = self.path.suffix.lower().lstrip(".")
        kind = {"mkv": "matroska", "m4v": "mp4", "": "mp4"}.get(suffix, suffix)
        try:
            self._container = av.open(str(self._temporary), "w", format=kind)
            options = {"crf": str(self.crf), "preset": "veryfast"} if encoder == "libx264" else {}
            rate = Fraction(self.fps).limit_denominator(100_000)
            self._stream = self._container.add_stream(encoder, rate=rate, options=options)
        except (av.error.FFmpegError, ValueError) as error:
            raise EgoposeError(f"{self.path}: cannot be written as a video ({error}); use the suffix .mp4") from error
        # 4:2:0 needs even sizes
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._size = (width, height)

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append one image, (H, W, 3) uint8 RGB of the size of the first.

        Raises:
            EgoposeError: Another size or type, or the disk is full.
        """
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise EgoposeError(
                f"{self.path}: image of shape {image.shape} and type {image.dtype}; expected (H, W, 3) uint8"
            )
        height, width = image.shape[:2]
        if self._size is None:
            self._start(width, height)
        elif (width, height) != self._size:
            raise EgoposeError(
                f"{self.path}: image {self.n_frames} is {width} x {height}, the first was "
                f"{self._size[0]} x {self._size[1]}"
            )
        if width % 2 or height % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = _av().VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        self.n_frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is None and self._container is None:
            error = EgoposeError(f"{self.path}: no image was added; a video needs at least one")
            self._stack.__exit__(type(error), error, None)
            raise error
        if kind is None:
            try:
                for packet in self._stream.encode():
                    self._container.mux(packet)
                self._container.close()
            except OSError as failure:
                self._fail(failure)
        elif self._container is not None:
            # the header may be unwritten: closing is best effort
            with contextlib.suppress(Exception):
                self._container.close()
        return self._stack.__exit__(kind, error, trace)

    def _fail(self, failure: OSError) -> NoReturn:
        with contextlib.suppress(Exception):
            self._container.close()
        # the surrounding context removes the temporary file and names the reason
        self._stack.__exit__(type(failure), failure, failure.__traceback__)
        raise failure
