"""Strict configuration from YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from egopose.config import Config, config_dict, config_hash, load_config, preset_names
from egopose.errors import EgoposeError


class Inner(Config):
    rate: float = 0.1


class Outer(Config):
    inner: Inner = Inner()
    name: str = "x"


def test_files_override_defaults_and_keywords_override_files(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("inner: {rate: 3}\nname: file\n")
    assert load_config(Outer, path) == Outer(inner=Inner(rate=3.0), name="file")
    assert load_config(Outer, path, name="keyword").name == "keyword"
    assert load_config(Outer) == Outer()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inner: {rte: 3}", r"unknown field `rte`.*\$\.inner"),
        ("inner: {rate: fast}", r"Expected `float`.*\$\.inner\.rate"),
        ("- 1", "expected a mapping"),
        ("a: [", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(EgoposeError, match=message):
        load_config(Outer, path)


def test_unknown_presets_are_listed() -> None:
    with pytest.raises(EgoposeError, match="neither a YAML file nor a preset"):
        load_config(Outer, "no-such-preset")
    assert isinstance(preset_names(), list)


def test_hash_follows_content() -> None:
    assert config_hash(Outer()) == config_hash(Outer(name="x"))
    assert config_hash(Outer()) != config_hash(Outer(name="y"))
    assert config_dict(Outer()) == {"inner": {"rate": 0.1}, "name": "x"}
