"""Parts of the site that are made here: formulas without a script, links of the tree, names in docstrings."""

from __future__ import annotations

import importlib
import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

# what a page in the tree links to, and the page of the site that shows it
MOVED = {
    r"\.\./egopose/weights/(\w+)\.md": r"models/\1.md",
    r"\.\./CHANGELOG\.md": "changes.md",
    r"\.\./CONTRIBUTING\.md": "contributing.md",
}
NOTHING = object()


def _inline(writer: Any, node: nodes.math) -> None:
    # browsers draw MathML themselves, so a page needs neither a script nor a font from elsewhere
    writer.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def _links(app: Sphinx, page: str, source: list[str]) -> None:
    for there, here in MOVED.items():
        source[0] = re.sub(rf"\]\({there}\)", f"]({here})", source[0])


def _constants(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    # napoleon would take the words before the first colon of a constant's text for its type
    if what in ("data", "attribute", "property"):
        lines[:0] = ["..", ""]


def find(path: str) -> Any:
    """The object of a dotted name, or NOTHING."""
    parts = path.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            # fields of a dataclass without a default are annotations only
            thing = getattr(thing, part, NOTHING)
        return thing
    return NOTHING


def _reference(app: Sphinx, env: Any, node: Any, shown: Any) -> Any:
    """A name that the index does not hold: the same object under its public name, or an object without a page.

    A name of nothing stays unresolved, and fails the strict build.
    """
    if node.get("refdomain") != "py":
        return None
    name, module = node["reftarget"], node.get("py:module") or "egopose"
    thing = next((t for t in (find(f"{module}.{name}"), find(name), find(f"egopose.{name}")) if t is not NOTHING), None)
    if thing is None:
        return None
    last = name.rsplit(".", 1)[-1]
    for public, entry in env.get_domain("py").objects.items():
        if public.rsplit(".", 1)[-1] == last and find(public) is thing:
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, shown, public)
    return shown


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("source-read", _links)
    app.connect("autodoc-process-docstring", _constants, priority=400)
    app.connect("missing-reference", _reference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
