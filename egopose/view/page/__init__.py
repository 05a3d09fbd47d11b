"""The 3D viewer page: one HTML file assembled from the parts in this folder.

``1-data.js`` decodes, ``2-camera.js`` is the viewer's eye and the pointer, ``3-draw.js`` paints, ``4-controls.js`` is
everything around the canvas. The scripts share one scope and are concatenated in the order of their names. The page
paints on a 2D canvas: no graphics card or WebGL is needed, an error ellipsoid projects to an exact ellipse, and a
phone draws it as well as a workstation.
"""

from __future__ import annotations

import html
import json
from importlib import resources
from typing import Any

# no address of any kind can be reached from the page, whatever a joint or file is called
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'unsafe-inline'",
        "style-src 'unsafe-inline'",
        "img-src data: blob:",
        "media-src data: blob:",
    )
)


def part(name: str) -> str:
    """Text of one file of this folder."""
    return (resources.files(__name__) / name).read_text(encoding="utf-8")


def script_json(value: Any) -> str:
    """JSON that is safe inside a script element: no tag can be closed or opened from within a string.

    Raises:
        ValueError: A number is not finite.
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def document(title: str, body: str, *, style: str, head: str = "") -> str:
    """A complete HTML document that loads nothing; the title is escaped, the rest is taken as it is."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n{head}</head>\n<body>\n{body}</body>\n</html>\n"
    )


def viewer_document(scene: dict[str, Any]) -> str:
    """The page of one scene (see :func:`egopose.view.scene.build_scene`)."""
    scripts = "".join(part(name) for name in ("1-data.js", "2-camera.js", "3-draw.js", "4-controls.js"))
    body = (
        part("viewer.html")
        + f'<script type="application/json" id="scene-data">{script_json(scene)}</script>\n'
        + f"<script>\n{scripts}</script>\n"
    )
    return document(str(scene["title"]), body, style=part("viewer.css"))
