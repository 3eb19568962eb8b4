"""Strategies: valid bytes made unsound, and valid structures with junk in them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

NUMBERS = [
    *(0, 1, -1, 2**31, -(2**31) - 1, 2**63, 2**64, 10**30),
    *(0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf")),
]
WORDS = ["", " ", "\0", "\n", "nan", "../x", "/", "é", "\U0001f600", "x" * 300, "{", "hopper"]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.text(max_size=8)
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def damaged(draw: st.DrawFn, valid_content: bytes) -> bytes:
    """Truncated, flipped, overwritten, cut, doubled, prefixed: one to three times; or random."""
    if draw(st.integers(0, 11)) == 0:
        return draw(st.binary(max_size=256))
    content = bytearray(valid_content)
    for _ in range(draw(st.integers(1, 3))):
        size = len(content)
        near = draw(st.sampled_from(["start", "end", "anywhere"]))
        low = max(0, size - 512) if near == "end" else 0
        high = min(size, 512) if near == "start" else size
        at = draw(st.integers(low, high))
        until = min(size, at + draw(st.integers(1, 64)))
        operation = draw(
            st.sampled_from(["cut", "flip", "flip", "write", "extreme", "drop", "double"])
        )
        if operation == "cut":
            del content[at:]
        elif operation == "flip" and at < size:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif operation == "write":
            content[at:until] = draw(st.binary(min_size=until - at, max_size=until - at))
        elif operation == "extreme":
            content[at : at + 8] = draw(st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80"])) * 8
        elif operation == "drop":
            del content[at:until]
        else:
            content[at:at] = content[at:until]
    return bytes(content)


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path into nested dictionaries and lists; of long lists the first four."""
    yield path
    keys: Any = content if isinstance(content, dict) else ()
    if isinstance(content, list):
        keys = range(min(4, len(content)))
    for key in keys:
        yield from places(content[key], (*path, key))


@st.composite
def altered(draw: st.DrawFn, valid: Any, junk: Any = JUNK) -> Any:
    """A structure of which one to three places are replaced, removed or added to."""
    content = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(content))))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return draw(junk)
            continue
        holder = content
        for key in path[:-1]:
            holder = holder[key]
        operation = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if operation == "remove":
            del holder[path[-1]]
        elif operation == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(WORDS))] = draw(junk)
        else:
            holder[path[-1]] = draw(junk)
    return content


def as_json(content: Any) -> bytes:
    """JSON as a careless writer makes it, with NaN and lone surrogates."""
    return json.dumps(content).encode()


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Small arrays of any type and of zero to three dimensions."""
    kind = draw(st.sampled_from(["f2", "f4", "f8", "i1", "i8", "u2", "u8", "b1", "c8", "S3", "U2"]))
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 11, 12, 40]), max_size=3)))
    fill = draw(st.sampled_from([0, 1, -1, 100, float("nan"), float("inf")]))
    with np.errstate(all="ignore"):
        try:
            return np.full(shape, fill, dtype=kind)
        except (ValueError, OverflowError):
            return np.zeros(shape, dtype=kind)


@st.composite
def altered_arrays(draw: st.DrawFn, valid: dict[str, Any]) -> dict[str, Any]:
    """Named arrays of which one to three are replaced, renamed, cut, cast or left out."""
    content = dict(valid)
    for _ in range(draw(st.integers(1, 3))):
        if not content:
            break
        name = draw(st.sampled_from(sorted(content)))
        array = content.pop(name)
        operation = draw(st.sampled_from(["replace", "replace", "cut", "cast", "rename", "drop"]))
        if operation == "replace":
            content[name] = draw(arrays())
        elif operation == "cut":
            content[name] = array[: draw(st.integers(0, 3))] if array.ndim else array
        elif operation == "cast":
            kind = draw(st.sampled_from(["f2", "f8", "i4", "u1", "?"]))
            with np.errstate(all="ignore"):
                content[name] = array.astype(kind) if array.dtype.kind in "fiub" else array
        elif operation == "rename":
            content[name + draw(st.sampled_from(["0", ".", "x"]))] = array
    return content
