"""Parts of the site that are made here: formulas without a script, links of the tree, names in docstrings, verbs."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import stringify_signature
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


def _signature(app: Sphinx, what: str, name: str, thing: Any, options: Any, shown: str, returns: str) -> Any:
    """The signature as the source writes it: evaluated, the array types of NumPy fill a page."""
    if what not in ("function", "method", "class"):
        return None
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return None
    parameters = list(signature.parameters.values())
    if what == "method" and parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    text = stringify_signature(signature.replace(parameters=parameters))
    arguments, _, result = text.rpartition(" -> ") if " -> " in text else (text, "", "")
    return arguments, None if what == "class" else result or None


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
    known, last = env.get_domain("py").objects, name.rsplit(".", 1)[-1]
    paths = (f"{module}.{name}", name, f"egopose.{name}")
    thing = next((t for t in map(find, paths) if t is not NOTHING), NOTHING)
    same = [p for p in known if p.rsplit(".", 1)[-1] == last]
    if thing is not NOTHING:
        same = sorted((p for p in same if find(p) is thing), key=len)[:1]
    elif not _annotation(node):
        return None
    if len(same) != 1:
        return shown
    entry = known[same[0]]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, shown, same[0])


def _exact(app: Sphinx, tree: nodes.document) -> None:
    # the guess by the last part of a name is made in _reference, which knows the objects
    for node in tree.findall(addnodes.pending_xref):
        if node.get("refdomain") == "py" and _annotation(node):
            node.attributes.pop("refspecific", None)


def _annotation(node: Any) -> bool:
    # a name in a signature is Python's and the type checker's business; one in a text is ours
    while node is not None and not isinstance(node, addnodes.desc_signature):
        node = node.parent
    return node is not None


class Verbs(SphinxDirective):
    """The help of every verb, as the program prints it."""

    def run(self) -> list[nodes.Node]:
        from egopose.cli import VERBS

        return [section for name, (target, line) in VERBS.items() for section in self._verb(name, target, line)]

    def _verb(self, name: str, target: Any, line: str) -> list[nodes.Node]:
        if isinstance(target, dict):
            return [section for sub, (t, said) in target.items() for section in self._verb(_sub(name, sub), t, said)]
        section = nodes.section(ids=[name.replace(" ", "-")])
        section += nodes.title("", "", nodes.literal("", f"egopose {name}"))
        section += nodes.paragraph("", line[0].upper() + line[1:] + ".")
        section += nodes.literal_block("", _help(name, target), language="text")
        return [section]


def _sub(verb: str, word: str) -> str:
    from egopose.cli import DEFAULT

    return verb if word == DEFAULT else f"{verb} {word}"


def _help(name: str, target: str) -> str:
    from egopose.cli import run_verb

    said = io.StringIO()
    os.environ["COLUMNS"] = "100"
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        run_verb(target, f"egopose {name}", ["--help"])
    return "\n".join(line.rstrip() for line in said.getvalue().strip().splitlines())


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.add_directive("verbs", Verbs)
    app.connect("source-read", _links)
    app.connect("autodoc-process-docstring", _constants, priority=400)
    app.connect("autodoc-process-signature", _signature)
    app.connect("doctree-read", _exact)
    app.connect("missing-reference", _reference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
