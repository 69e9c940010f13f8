"""Text files with damaged lines, words and bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import strategies as st

LONG = "9" * 5_000
ODD_WORDS = (
    *("", "-1", "0", "1", "4096", "18446744073709551615", "18446744073709551616", "1e9", "0x10", LONG, "nan", "٣", "²"),
    *("\0", "\x1b[2J", "[/nope]", "\x85", "\u2028", "\ufeff", "\ud7ff", "é", "x" * 300, ":", "#", "->", "<-", ": : :"),
)
"""Words in place of a number or a name."""

ODD_BYTES = (
    b"\0",
    b"\xff",
    b"\x1b[31m",
    b"\r",
    b"\n\n",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\x1f\x8b\x08\0",
    b" " * 3_000,
)

Change = Callable[[st.DrawFn, bytes], bytes]


@st.composite
def changed(draw: st.DrawFn, good: bytes, words: Sequence[str] = ODD_WORDS) -> bytes:
    """*good* after some changes."""
    data = good
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 4]))):
        match draw(st.integers(0, 4)):
            case 0 | 1:
                data = _with_a_word(draw, data, words)
            case 2:
                data = _with_lines(draw, data)
            case 3:
                data = _with_bytes(draw, data)
            case _:
                data = data[: draw(st.integers(0, len(data)))]
    return data


def _with_a_word(draw: st.DrawFn, data: bytes, words: Sequence[str]) -> bytes:
    """One word of one line replaced, removed, or inserted."""
    lines = data.split(b"\n")
    at = draw(st.integers(0, len(lines) - 1))
    parts = lines[at].split(b" ")
    place = draw(st.integers(0, len(parts) - 1))
    new = draw(st.sampled_from(words)).encode()
    parts[place : place + draw(st.integers(0, 1))] = draw(st.sampled_from([[new], []]))
    lines[at] = b" ".join(parts)
    return b"\n".join(lines)


def _with_lines(draw: st.DrawFn, data: bytes) -> bytes:
    """Lines removed, repeated or exchanged."""
    lines = data.split(b"\n")
    at, to = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    many = draw(st.sampled_from([0, 1, 1, 2, 50]))
    taken = lines[at : at + many] if draw(st.booleans()) else []
    rest = lines if draw(st.booleans()) else lines[:at] + lines[at + many :]
    return b"\n".join([*rest[:to], *taken, *rest[to:]])


def _with_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes inserted or overwritten."""
    at, new = draw(st.integers(0, len(data))), draw(st.sampled_from(ODD_BYTES) | st.binary(max_size=8))
    return data[:at] + new + data[at + draw(st.sampled_from([0, len(new), 10])) :]
