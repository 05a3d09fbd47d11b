"""The command line: one verb per job. Only the verb that runs is imported, so ``--help`` is instant."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from egopose import __version__
from egopose.errors import EgoposeError
from egopose.files import remove_unfinished

DEFAULT = "CONFIG"
"""The entry of a table that takes every word which is no verb of its own."""

# verb -> (module:function, or a table of sub-verbs; one line of help)
VERBS: dict[str, tuple[Any, str]] = {
    "predict": ("egopose.commands.predict:predict", "an ego clip in, 3D joints of the wearer out"),
    "triangulate": ("egopose.commands.triangulate:triangulate", "exo cameras in, 3D joints with error bars out"),
    "evaluate": (
        {
            "body": ("egopose.commands.evaluate:evaluate_body", "the official Ego-Exo4D body protocol"),
            "hand": ("egopose.commands.evaluate:evaluate_hand", "the official Ego-Exo4D hand protocol"),
            "pose": ("egopose.commands.evaluate:evaluate_pose", "any prediction against any reference"),
        },
        "predictions and ground truth in, numbers out",
    ),
    "validate": (
        {
            "body": ("egopose.commands.validate:validate_body", "check a body submission"),
            "hand": ("egopose.commands.validate:validate_hand", "check a hand submission"),
        },
        "check a submission before it is sent",
    ),
    "view": ("egopose.commands.view:view", "a page, plots or an overlay video of any result"),
    "convert": ("egopose.commands.convert:convert", "from one format to another"),
    "synth": (
        {
            "ego-exo4d": ("egopose.commands.synth_ego_exo4d:synth_ego_exo4d", "a stand-in for the Ego-Exo4D dataset"),
            DEFAULT: ("egopose.commands.synth:synth", "clips by a settings file or the preset 'synth'"),
        },
        "render labelled synthetic ego clips, or a stand-in dataset",
    ),
    "info": ("egopose.commands.info:info", "what an Ego-Exo4D folder holds and lacks"),
    "label": ("egopose.commands.label:label", "labels of Ego-Exo4D takes from their exo videos"),
    "clips": ("egopose.commands.ego_exo4d:clips", "labelled Ego-Exo4D takes as training clips"),
    "submit": ("egopose.commands.ego_exo4d:submit", "predict Ego-Exo4D test takes and pack the submission"),
    "train": ("egopose.commands.train:train", "train the network"),
    "weights": ("egopose.commands.weights:weights", "list, check and fetch model weights"),
    "demo": ("egopose.commands.demo:demo", "run the jobs on embedded captures"),
    "warmup": ("egopose.commands.warmup:warmup", "compile every kernel once and keep it"),
}  # fmt: skip

USAGE_STATUS = 2
REFUSED_STATUS = 1


def _help(verbs: dict[str, tuple[Any, str]], prefix: str) -> str:
    width = max(len(name) for name in verbs)
    lines = [f"usage: {prefix} VERB [options]", ""]
    if prefix == "egopose":
        lines += [f"egopose {__version__}: first-person human motion, predicted, triangulated and evaluated", ""]
    lines += [f"  {name:<{width}}  {text}" for name, (_, text) in verbs.items()]
    return "\n".join([*lines, "", f"'{prefix} VERB --help' describes one."])


def _find(argv: Sequence[str]) -> tuple[str, str, list[str]] | int:
    """Walk the verb table; returns the target, the program name and the remaining arguments, or an exit status."""
    verbs, prefix, rest = VERBS, "egopose", list(argv)
    while True:
        if not rest or rest[0] in ("-h", "--help"):
            print(_help(verbs, prefix), file=sys.stdout if rest else sys.stderr)
            return 0 if rest else USAGE_STATUS
        if rest[0] == "--version" and prefix == "egopose":
            print(f"egopose {__version__}")
            return 0
        word = rest.pop(0)
        if DEFAULT in verbs and (word not in verbs or word == DEFAULT):
            return verbs[DEFAULT][0], prefix, [word, *rest]
        if word not in verbs:
            print(f"{prefix}: no verb {word!r}; there are: {', '.join(verbs)}", file=sys.stderr)
            return USAGE_STATUS
        target, _ = verbs[word]
        prefix = f"{prefix} {word}"
        if isinstance(target, str):
            return target, prefix, rest
        verbs = target


def _on_terminate(signum: int, frame: object) -> NoReturn:
    # leave through the normal path, so that temporary files are removed
    raise SystemExit(128 + signum)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def run_verb(target: str, prog: str, arguments: list[str]) -> int:
    """Import and run one verb, or run it for every row of a table; returns the exit status."""
    import tyro

    if any(word.startswith("--each") for word in arguments):
        from egopose.commands.each import run_each, split

        options, template = split(arguments)
        if options is not None:
            return run_each(target, prog, options, template)
    module, name = target.split(":")
    function: Callable[..., int | None] = getattr(importlib.import_module(module), name)
    status = tyro.cli(function, args=arguments, prog=prog, config=(tyro.conf.FlagCreatePairsOff,),
                      description=_description(function, prog))  # fmt: skip
    return int(status or 0)


def _description(function: Callable[..., Any], prog: str) -> str | None:
    """The verb's own words and, where it can run for many rows, how."""
    from egopose.commands.each import HELP, VERBS

    own = (function.__doc__ or "").split("\n\n    Args:")[0]
    return f"{own}\n\n{HELP}" if prog.split()[1] in VERBS else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 done, 1 the input was refused (one line on stderr says why), 2 usage, 130 interrupted.
    """
    found = _find(sys.argv[1:] if argv is None else argv)
    if isinstance(found, int):
        return found
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    warnings.showwarning = _show_warning
    previous = signal.signal(signal.SIGTERM, _on_terminate)
    try:
        return run_verb(*found)
    except EgoposeError as error:
        print(f"{found[1]}: {' '.join(str(error).split())}", file=sys.stderr)
        return REFUSED_STATUS
    except KeyboardInterrupt:
        print(f"{found[1]}: interrupted; nothing half-written was left, run it again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our output went away (a pager, head): not an error of ours
        sys.stderr.close()
        return 0
    finally:
        remove_unfinished()
        signal.signal(signal.SIGTERM, previous)


if __name__ == "__main__":
    sys.exit(main())
