"""Camera files in YAML and XML: OpenCV's FileStorage, ROS camera_info, Kalibr chains, EasyMocap's pair of files.

Accepted shapes of one file: keys of one camera (``K``/``camera_matrix``, ``D``/``distortion_coefficients``,
``R``, ``T``, image size); one such mapping per camera; keys with the camera's name behind an underscore
(``K_01``, ``dist_01``, ``Rot_01``, ``T_01``); OpenCV's stereo sample (``M1 D1 M2 D2 R T``). A folder with
``intri.yml`` and ``extri.yml`` is EasyMocap's. ``R`` (3 x 3 or Rodrigues) and ``T`` map world to camera.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from egopose import rigid
from egopose.camera import Rig
from egopose.errors import EgoposeError
from egopose.files import parse_yaml, read_text, yaml_loader
from egopose.io.fields import Floats, Size, given_size, image_size, key, mapping, numbers, unit_scale
from egopose.io.registry import reader
from egopose.io.rigs import CameraRecord, build_rig

_K = ("K", "camera_matrix", "cameraMatrix", "Camera_Matrix", "CameraMatrix", "intrinsic_matrix", "intrinsic", "matrix")
_D = (
    "D", "dist", "distortion_coefficients", "Distortion_Coefficients", "distCoeffs", "dist_coeffs", "DistCoeffs",
    "distortion_coeffs", "distCoef", "distortion", "distortions",
)  # fmt: skip
_R = ("Rot", "R", "rotation", "rotation_matrix", "rvec", "Rotation")
_T = ("T", "t", "translation", "tvec", "translation_vector", "Translation")
_FISHEYE_MODELS = ("equidistant", "fisheye", "kannala_brandt", "kb4")
_MAX_BYTES = 32 << 20


def read_storage(path: Path) -> dict[str, Any]:
    """Parse a YAML or XML storage into nested dicts; matrices become (rows, cols) lists of numbers.

    Raises:
        EgoposeError: Neither, or damaged.
    """
    text = read_text(path, max_bytes=_MAX_BYTES)
    if not text.strip():
        raise EgoposeError(f"{path}: the file is empty; expected YAML or XML with cameras")
    return _read_xml(text, path) if text.lstrip().startswith("<") else _read_yaml(text, path)


def _read_yaml(text: str, path: Path) -> dict[str, Any]:
    class Loader(yaml_loader()):  # type: ignore[misc]
        """YAML with OpenCV's matrix tag."""

    def matrix(loader: Any, node: Any) -> Any:
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", matrix)
    Loader.add_constructor("!opencv-matrix", matrix)
    # OpenCV writes a directive of its own that is not YAML
    body = re.sub(r"\A%YAML[^\n]*\n", "", text)
    loaded = parse_yaml(body, path, loader=Loader)
    return {str(name): value for name, value in mapping(loaded, str(path)).items()}


def parse_xml(text: str, path: Path) -> Any:
    """Parse XML without entities; returns the root element.

    Raises:
        EgoposeError: Not XML, or it declares entities.
    """
    import xml.etree.ElementTree as ElementTree

    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise EgoposeError(f"{path}: declares a document type or entities; plain XML is expected")
    try:
        # bytes: a str with an encoding declaration is refused by the parser
        return ElementTree.fromstring(re.sub(r"\A\s*<\?xml[^>]*\?>", "", text))
    except (ElementTree.ParseError, ValueError) as error:
        raise EgoposeError(f"{path}: not valid XML ({error}); the file may be truncated") from error


def _read_xml(text: str, path: Path) -> dict[str, Any]:
    root = parse_xml(text, path)
    if root.tag != "opencv_storage":
        raise EgoposeError(f"{path}: the root element is <{root.tag}>; expected <opencv_storage>")

    def value(element: Any, depth: int = 0) -> Any:
        if depth > 16:
            raise EgoposeError(f"{path}: nested deeper than 16 levels; expected a flat file")
        if element.get("type_id") == "opencv-matrix":
            return {child.tag: (child.text or "").strip() for child in element}
        children = list(element)
        if children:
            if all(child.tag == "_" for child in children):
                return [value(child, depth + 1) for child in children]
            return {child.tag: value(child, depth + 1) for child in children}
        words = (element.text or "").split()
        parsed = [_plain(word) for word in words]
        return parsed[0] if len(parsed) == 1 else parsed

    return {child.tag: value(child) for child in root}


def _plain(word: str) -> Any:
    try:
        return float(word)
    except ValueError:
        return word.strip('"')


def _matrix(value: Any, where: str) -> Floats:
    """A matrix node (rows, cols, data), or nested lists."""
    if isinstance(value, Mapping):
        rows, cols = (int(numbers(key(value, name, where), f"{where}: {name}", ())) for name in ("rows", "cols"))
        data = key(value, "data", where)
        if isinstance(data, str):
            data = [_plain(word) for word in data.split()]
        flat = numbers(data, f"{where}: data").ravel()
        if rows < 0 or cols < 0 or flat.size != rows * cols:
            raise EgoposeError(f"{where}: {flat.size} numbers for a {rows} x {cols} matrix; the file may be truncated")
        return flat.reshape(rows, cols)
    return numbers(value, where)


def _first(table: Mapping[str, Any], names: tuple[str, ...], suffix: str = "") -> Any:
    return next((table[name + suffix] for name in names if name + suffix in table), None)


def _size(table: Mapping[str, Any], where: str, suffix: str = "") -> Size | None:
    for w, h in (("image_width", "image_height"), ("imgWidth", "imgHeight"), ("width", "height"), ("W", "H")):
        if w + suffix in table and h + suffix in table:
            return image_size([table[w + suffix], table[h + suffix]], f"{where}: {w} and {h}")
    for name in ("image_size", "imageSize", "resolution", "size", "img_size", "Image_Size"):
        if name + suffix in table:
            return image_size(_matrix(table[name + suffix], f"{where}: {name}").ravel(), f"{where}: {name}")
    return None


def _record(
    name: str, table: Mapping[str, Any], where: str, size: Size | None, fisheye: bool | None, suffix: str = ""
) -> CameraRecord:
    K_value = _first(table, _K, suffix)
    if K_value is None:
        raise EgoposeError(f"{where}: no camera matrix; expected one of {', '.join(_K)}")
    D_value = _first(table, _D, suffix)
    R_value, T_value = _first(table, _R, suffix), _first(table, _T, suffix)
    distortion = np.zeros(4) if D_value is None else _matrix(D_value, f"{where}: distortion").ravel()
    if (R_value is None) != (T_value is None):
        raise EgoposeError(f"{where}: has only one of rotation and translation; expected both or none")
    R = t = None
    if R_value is not None:
        R = _matrix(R_value, f"{where}: rotation")
        R = R.ravel() if R.size == 3 else R
        t = _matrix(T_value, f"{where}: translation").ravel()
    model = str(table.get("distortion_model", table.get("camera_model", ""))).lower()
    return CameraRecord(
        name=name,
        size=_size(table, where, suffix) or size or given_size(None, where),
        K=_matrix(K_value, f"{where}: camera matrix"),
        distortion=distortion,
        fisheye=model in _FISHEYE_MODELS if fisheye is None else fisheye,
        R_camera_world=R,
        t_camera_world=t,
        where=where,
    )


def _kalibr(content: Mapping[str, Any], where: str) -> list[CameraRecord]:
    """A Kalibr chain: each camera's pose is relative to the one before; the first camera is the world."""
    records: list[CameraRecord] = []
    T_camera_world = np.eye(4)
    for name, table in content.items():
        at = f"{where}: {name}"
        if "T_cn_cnm1" in table:
            step = numbers(table["T_cn_cnm1"], f"{at}: T_cn_cnm1", (4, 4))
            T_camera_world = rigid.check_transform(step, f"{at}: T_cn_cnm1") @ T_camera_world
        elif records:
            raise EgoposeError(f"{at}: lacks 'T_cn_cnm1'; every camera after the first needs it")
        if table.get("camera_model", "pinhole") != "pinhole":
            raise EgoposeError(f"{at}: camera model {table['camera_model']!r} is not read; expected 'pinhole'")
        fx, fy, cx, cy = numbers(key(table, "intrinsics", at), f"{at}: intrinsics", (4,))
        model = str(table.get("distortion_model", "radtan"))
        if model not in ("radtan", "equidistant", "none"):
            raise EgoposeError(f"{at}: distortion model {model!r} is not read; expected 'radtan' or 'equidistant'")
        records.append(
            CameraRecord(
                name=name,
                size=image_size(key(table, "resolution", at), f"{at}: resolution"),
                K=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]),
                distortion=numbers(table.get("distortion_coeffs", [0, 0, 0, 0]), f"{at}: distortion_coeffs").ravel(),
                fisheye=model == "equidistant",
                R_camera_world=T_camera_world[:3, :3],
                t_camera_world=T_camera_world[:3, 3],
                where=at,
            )
        )
    return records


def _records(content: dict[str, Any], path: Path, size: Size | None, fisheye: bool | None) -> list[CameraRecord]:
    where = str(path)
    tables = {n: v for n, v in content.items() if isinstance(v, Mapping) and "data" not in v}
    if tables and all("intrinsics" in t for t in tables.values()):
        return _kalibr(tables, where)
    nested = {n: t for n, t in tables.items() if _first(t, _K) is not None}
    if nested:
        return [_record(name, table, f"{where}: {name}", size, fisheye) for name, table in nested.items()]
    if "M1" in content and "M2" in content:
        one = {"K": content["M1"], "D": content.get("D1", [0.0] * 4), "R": np.eye(3).tolist(), "T": [0.0] * 3}
        two = {"K": content["M2"], "D": content.get("D2", [0.0] * 4), "R": key(content, "R", where),
               "T": key(content, "T", where)}  # fmt: skip
        common = _size(content, where) or size
        return [_record(f"cam{i}", table, f"{where}: camera {i}", common, fisheye) for i, table in ((1, one), (2, two))]
    if _first(content, _K) is not None:
        name = str(content.get("camera_name", path.stem))
        return [_record(name, content, where, size, fisheye)]
    names = [n.partition("_")[2] for n in content if n.partition("_")[0] in _K and n.partition("_")[2]]
    if names:
        return [_record(name, content, f"{where}: camera {name}", size, fisheye, f"_{name}") for name in names]
    have = ", ".join(list(content)[:10])
    raise EgoposeError(
        f"{path}: no camera matrix; expected one of {', '.join(_K)}, alone or as K_<name>; it has: {have}"
    )


def _pair(folder: Path) -> tuple[Path, Path] | None:
    for suffix in (".yml", ".yaml"):
        intri, extri = folder / f"intri{suffix}", folder / f"extri{suffix}"
        if intri.is_file() and extri.is_file():
            return intri, extri
    return None


def _sniff(path: Path, head: bytes) -> bool:
    if path.is_dir():
        return _pair(path) is not None
    text = head.decode("utf-8", "replace")
    if "<opencv_storage>" in text:
        return True
    if text.lstrip()[:1] in ("{", "[", "<") or not (path.suffix.lower() in (".yml", ".yaml") or "%YAML" in text[:64]):
        return False
    names = "|".join((*_K, "M1", "intrinsics"))
    return re.search(rf"^\s*({names})(_[\w-]+)?\s*:", text, re.MULTILINE) is not None


@reader(
    "opencv",
    kinds=("Rig",),
    suffixes=(".yml", ".yaml", ".xml", "/"),
    looks_for="K or camera_matrix in YAML or <opencv_storage>, or a folder with intri.yml and extri.yml",
    description="OpenCV FileStorage, ROS camera_info, Kalibr chain, EasyMocap intri/extri",
    sniff=_sniff,
)
def read(path: Path, *, size: Any = None, unit: str | float = "m", fisheye: bool | None = None) -> Rig:
    """Read cameras from YAML or XML.

    Args:
        path: A file, or a folder with ``intri.yml`` and ``extri.yml``.
        size: (width, height) of the images, where the file does not say.
        unit: Unit of the translations: "m", "cm", "mm", "inch", or metres per unit.
        fisheye: The distortion is OpenCV's fisheye model; by default the file's model name decides.

    Raises:
        EgoposeError: No camera matrix, no size, damaged matrices.
    """
    path = Path(path)
    wanted = None if size is None else given_size(size, str(path))
    if path.is_dir():
        pair = _pair(path)
        if pair is None:
            raise EgoposeError(f"{path}: expected intri.yml and extri.yml in this folder")
        content = read_storage(pair[0])
        content |= read_storage(pair[1])
    else:
        content = read_storage(path)
    records = _records(content, path, wanted, fisheye)
    scale = unit_scale(unit)
    for record in records:
        if record.t_camera_world is not None:
            record.t_camera_world = record.t_camera_world * scale
        elif len(records) > 1:
            raise EgoposeError(f"{record.where}: no rotation and translation; a rig of {len(records)} needs them")
    return build_rig(records, str(path))
