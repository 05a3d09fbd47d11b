"""The scanner gives what the general parser gives, on every document, or hands over to it."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egopose.errors import EgoposeError
from egopose.files import parse_json
from egopose.io.json_table import Scanner, Unusual
from egopose.kernels import json_scan

NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-10, 10),
    st.integers(-(10**6), 10**6),
    st.integers(-(10**25), 10**25),
    st.just(-0.0),
)


def scanner_of(text: bytes) -> Scanner:
    return Scanner(np.frombuffer(text, dtype=np.uint8))


def unbox(scanner: Scanner, table: Any, row: int) -> dict[tuple[Any, ...], Any]:
    """Leaves of a row by path, from the cells."""
    out: dict[tuple[Any, ...], Any] = {}
    names = {json_scan.NULL: None, json_scan.TRUE: True, json_scan.FALSE: False}
    for path, column in table.columns.items():
        word = int(table.words[row, column])
        if word == json_scan.ABSENT:
            continue
        if word in names:
            out[path] = names[word]
        elif word == json_scan.EMPTY_LIST:
            out[path] = []
        elif word == json_scan.EMPTY_OBJECT:
            out[path] = {}
        elif word >> 48 == json_scan.STRING >> 48:
            out[path] = scanner.text((word & ((1 << 48) - 1)) - 1)[0]
        else:
            out[path] = struct.unpack("<d", struct.pack("<Q", word))[0]
    return out


def leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """Leaves of a parsed value by path."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {p: leaf for key, item in items for p, leaf in leaves(item, (*path, key)).items()}
    return {path: value}


def same(a: Any, b: Any) -> bool:
    if isinstance(b, bool) or b is None or isinstance(b, str | list | dict):
        return type(a) is type(b) and a == b
    return isinstance(a, float) and (struct.pack("<d", a) == struct.pack("<d", float(b)) or (a != a and b != b))


def taken_whole(text: bytes) -> bool:
    """Whether the scanner took the text and no row's key stands twice (which its callers test)."""
    try:
        scanner = scanner_of(text)
        scanner.rows(0)
        scanner.finish()
        keys = scanner.table().keys
    except Unusual:
        return False
    return len(set(keys)) == len(keys)


def check_document(text: bytes) -> bool:
    """Whether the scanner took it; what it took must be what the parser reads."""
    try:
        scanner = scanner_of(text)
        scanner.rows(0)
        scanner.finish()
        table = scanner.table()
    except Unusual:
        return False
    document = json.loads(text)
    assert table.keys == list(document)
    for row, value in enumerate(document.values()):
        want, got = leaves(value), unbox(scanner, table, row)
        assert set(want) == set(got)
        assert all(same(got[path], leaf) for path, leaf in want.items()), (want, got)
    return True


VALUES = st.recursive(
    st.one_of(NUMBERS, st.booleans(), st.none(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text('abxyz_- é\\"', max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text("0123456789ab", max_size=4), VALUES, max_size=6), st.sampled_from([None, 0, 1, "\t"]))
def test_any_document(document: dict[str, Any], indent: Any) -> None:
    check_document(json.dumps(document, indent=indent).encode())
    check_document(json.dumps(document, indent=indent, ensure_ascii=False).encode())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_text_is_never_taken_for_good(data: st.DataObject) -> None:
    document = {str(i): [{"x": 1.5, "y": [True, None, float("nan")], "z": "ab"}] for i in range(3)}
    text = bytearray(json.dumps(document, indent=data.draw(st.sampled_from([None, 1]))).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        action = data.draw(st.sampled_from(["cut", "drop", "put", "twice"]))
        if action == "cut":
            del text[at:]
            if not text:
                return
        elif action == "drop":
            del text[at]
            if not text:
                return
        elif action == "put":
            text[at] = data.draw(st.sampled_from(list(b'{}[]",:0123456789.eE+-aNInftrul \n\x00\x80')))
        else:
            text[at:at] = text[at : at + 5]
    try:
        document = json.loads(bytes(text))
    except ValueError:
        assert not taken_whole(bytes(text)), bytes(text)
        return
    if isinstance(document, dict):
        try:
            parse_json(bytes(text), "x")
        except EgoposeError:
            # a key twice: the scanner must not take that either
            assert not taken_whole(bytes(text))
            return
        check_document(bytes(text))


def numbers_of(texts: list[str]) -> list[float]:
    text = ("{" + ",".join(f'"{i}": {t}' for i, t in enumerate(texts)) + "}").encode()
    scanner = scanner_of(text)
    scanner.rows(0)
    table = scanner.table()
    return [float(v) for v in table.words[:, table.columns[()]].copy().view(np.float64)]


def test_numbers_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 63, 60_000, dtype=np.uint64) | (
        rng.integers(0, 2, 60_000, dtype=np.uint64) << np.uint64(63)
    )
    values = bits.view(np.float64)
    texts = [repr(float(v)) for v in values[np.isfinite(values)]]
    texts += [repr(float(v)) for v in rng.normal(size=60_000)]
    texts += [f"{v:.{d}f}" for v, d in zip(rng.uniform(-4000, 4000, 20_000), rng.integers(1, 19, 20_000))]
    texts += [f"{v:.{d}e}" for v, d in zip(10.0 ** rng.uniform(-70, 70, 20_000), rng.integers(0, 25, 20_000))]
    # half-way cases: a double plus half a unit in the last place, written out
    for v in rng.integers(1 << 52, 1 << 53, 2000):
        texts += [f"{int(v)}.5", f"{2 * int(v) + 1}e0", str(2 * int(v) + 1)]
    texts += [
        "0",
        "-0",
        "0.0",
        "-0.0",
        "0e5",
        "1e22",
        "1e23",
        "9007199254740993",
        "1e-400",
        "123456789012345678901234e-30",
    ]
    got = numbers_of(texts)
    want = [float(json.loads(t)) for t in texts]
    wrong = [t for t, a, b in zip(texts, got, want) if struct.pack("<d", a) != struct.pack("<d", b)]
    assert not wrong[:5]


@pytest.mark.parametrize(
    "text",
    [
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "1e+",
        "-",
        "--1",
        "0x1",
        "1_0",
        "nan",
        "Nan",
        "inf",
        "-NaN",
        "tru",
        "Infinit",
        "1 2",
    ],
)
def test_numbers_that_are_none(text: str) -> None:
    with pytest.raises(Unusual):
        numbers_of([text])


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1} x',
        '{"a": 1}}',
        '{"a": 1,}',
        '{"a" 1}',
        '{"a": [1,]}',
        '{"a": [1 2]}',
        '{"a": {"b": 1, "b": 2}}',
        "[]",
        "{",
        "",
        '{"a": "\\n"}',
        '{"a": "é"}',
        '{"a": "\t"}',
        '{"a": ' + "[" * 40 + "]" * 40 + "}",
        '{"a": 1e}',
        "{'a': 1}",
    ],
)
def test_unusual_text_is_handed_over(text: str) -> None:
    assert not check_document(text.encode()) if text else True
    if not text:
        with pytest.raises(Unusual):
            scanner_of(b"")


def test_warm_up_compiles_what_reading_uses() -> None:
    from egopose.io.json_table import warm_up
    from egopose.kernels import json_cells

    warm_up()
    kernels = (json_scan.scan_rows, json_cells.gather_numbers, json_cells.whole_numbers, json_cells.match_strings)
    before = [len(kernel.signatures) for kernel in kernels]
    table = scanner_of(b'{"1": [{"x": 2, "y": "auto"}]}')
    table.rows(0)
    rows = table.table()
    assert rows.numbers([(0, "x")])[0].tolist() == [[2.0]]
    assert rows.numbers_of_keys(100).tolist() == [1]
    assert rows.strings([(0, "y"), (0, "z")], np.arange(1), {"manual": 1, "auto": 2}).tolist() == [[2, 0]]
    assert [len(kernel.signatures) for kernel in kernels] == before
