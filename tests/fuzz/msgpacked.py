"""Arbitrary msgpack: any value, and bytes that are not valid msgpack."""

from __future__ import annotations

from typing import Any

import attrs
import msgpack
from hypothesis import strategies as st

DEEP = 3_000


@attrs.frozen
class Raw:
    """Bytes that are inserted unchanged in place of a value."""

    data: bytes = attrs.field(repr=lambda data: repr(data[:20]))


def pack(value: Any) -> bytes:
    """*value* as msgpack, with every `Raw` in it inserted unchanged."""
    packer = msgpack.Packer()
    match value:
        case Raw(data):
            return data
        case list() | tuple():
            return bytes(packer.pack_array_header(len(value))) + b"".join(map(pack, value))
        case dict():
            pairs = b"".join(pack(key) + pack(item) for key, item in value.items())
            return bytes(packer.pack_map_header(len(value))) + pairs
    return bytes(packer.pack(value))


BROKEN = (
    Raw(b"\xc1"),  # the byte that msgpack never uses
    Raw(b"\xc6\x7f\xff\xff\xff"),  # 2 GiB of bytes that do not follow
    Raw(b"\xdb\xff\xff\xff\xff"),  # 4 GiB of text
    Raw(b"\xdd\xff\xff\xff\xff"),  # an array of 2^32 - 1 elements
    Raw(b"\xdf\xff\xff\xff\xff\xc0"),  # a map of 2^32 - 1 pairs
    Raw(b"\xa2\xff\xfe"),  # text that is not UTF-8
    Raw(b"\xa3\xed\xa0\x80"),  # a lone surrogate
    Raw(b"\xd9"),  # it ends within a length
    Raw(b"\xc0\xc0"),  # one value too many
    Raw(b"\x91" * DEEP + b"\xc0"),
    Raw(b"\x81\xa1a" * DEEP + b"\xc0"),
    Raw(b"\x81\x91\x01\x02"),  # a list as a key
    Raw(b"\x82\xa1a\x01\xa1a\x02"),  # a key twice
    Raw(b"\xcf\x00\x00\x00\x00\x00\x00\x00\x01"),  # 1, in nine bytes
    Raw(b"\xd4\x05\x00"),  # an extension
    Raw(b"\xd6\xff\x00\x00\x00\x00"),  # a time
    Raw(b"\xd6\xff\xff\xff\xff\xff"),
    Raw(b"\xc7\x0c\xff" + b"\xff" * 12),  # a time outside every calendar
)

NUMBERS = (
    *(0, 1, 2, 5, 127, 128, 255, 256, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1),
    *(-1, -2, -128, -(2**31), -(2**63)),
    *(0.0, 0.5, 1.0, -0.5, 1e308, float("nan"), float("inf"), float("-inf")),
)

TEXTS = (
    *("", "x", "step", "header", "footer", "finding", "lane", "set", "0", "-1", "A", "race", "../x", "/etc/passwd"),
    *(
        "[/nope]",
        "[red]x[/]",
        "\x1b[2J\x1b]0;title\x07",
        "x\r\rslabrace: all is well",
        "a\nb",
        "\0",
        "\x9b2J",
        "\u202e",
    ),
    "x" * 300,
)

scalars = st.sampled_from([None, True, False, *NUMBERS, *TEXTS, b"", b"\xff\0", b"x"]) | st.integers(
    -(2**63), 2**64 - 1
)
values = st.recursive(
    scalars | st.sampled_from(BROKEN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*TEXTS, 1, None]), inner, max_size=3),
    max_leaves=5,
)
