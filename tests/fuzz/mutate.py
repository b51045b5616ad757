"""Damage to bytes, drawn from a seed: what transfer, disks, editors and enemies do to a file."""

import random
import re
import struct

_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_CAPITALS = re.compile(rb"(?<![A-Z])[A-Z]{2}(?![A-Z])")
_TYPES = (
    b"DS",
    b"IS",
    b"US",
    b"SS",
    b"UL",
    b"FD",
    b"SQ",
    b"UN",
    b"OB",
    b"OW",
    b"LO",
    b"UI",
    b"AT",
    b"PN",
    b"DA",
)
_TEXTS = (
    *(b"0", b"-1", b"1", b"2", b"3", b"-0.0", b"1e308", b"1e-308", b"nan", b"inf", b"0.001", b"1000"),
    *(b"32768", b"65536", b"2147483648", b"4294967297", b"9223372036854775808", b"9" * 400, b""),
    *(b"0x10", b"\xff\xfe", b"../../x", b"/dev/zero", b"1 2 3 4 5 6 7 8 9 10 11 12", b"A" * 5000),
)
_INTEGERS = (0, 1, -1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, -32768, 65535, 1 << 20, 1 << 31, (1 << 63) - 1)
_FLOATS = (0.0, -0.0, -1.0, 1e-38, 1e38, float("inf"), float("-inf"), float("nan"), 1e-3, 1e3, 1e308)


def mutated(data: bytes, draw: random.Random, *, head: int, text: bool) -> bytes:
    """The bytes with one to three faults.

    Args:
        data: a valid file.
        draw: decides everything.
        head: how many bytes at the start are the header; three of four faults are put there.
        text: the header is text: half of its faults put other numbers and lines into it.
    """
    for _ in range(draw.choice((1, 1, 2, 3))):
        if not data:
            break
        reach = min(head, len(data)) if head and draw.random() < 0.75 else len(data)
        worded = text and reach <= head and draw.random() < 0.5
        data = draw.choice(_WORDED if worded else _BINARY)(bytearray(data), reach, draw)
    return data


def _flip(data: bytearray, reach: int, draw: random.Random) -> bytes:
    for _ in range(draw.choice((1, 1, 2, 8))):
        data[draw.randrange(reach)] ^= 1 << draw.randrange(8)
    return bytes(data)


def _fill(data: bytearray, reach: int, draw: random.Random) -> bytes:
    start, count = draw.randrange(reach), draw.choice((1, 2, 4, 16, 64, 512))
    end = min(start + count, len(data))
    data[start:end] = bytes([draw.choice((0, 255, 32, 10))]) * (end - start)
    return bytes(data)


def _cut(data: bytearray, reach: int, draw: random.Random) -> bytes:
    return bytes(data[: draw.randrange(reach)])


def _insert(data: bytearray, reach: int, draw: random.Random) -> bytes:
    at = draw.randrange(reach)
    data[at:at] = draw.randbytes(draw.choice((1, 2, 4, 100)))
    return bytes(data)


def _remove(data: bytearray, reach: int, draw: random.Random) -> bytes:
    at = draw.randrange(reach)
    del data[at : at + draw.choice((1, 2, 4, 100))]
    return bytes(data)


def _double(data: bytearray, reach: int, draw: random.Random) -> bytes:
    start, to = draw.randrange(reach), draw.randrange(reach)
    data[to:to] = data[start : start + draw.choice((1, 4, 32, 256))]
    return bytes(data)


def _swap(data: bytearray, reach: int, draw: random.Random) -> bytes:
    size = draw.choice((1, 2, 4, 8, 16))
    first, second = (draw.randrange(max(1, reach // size)) * size for _ in range(2))
    a, b = bytes(data[first : first + size]), bytes(data[second : second + size])
    if len(a) == len(b) and first != second:
        data[first : first + size], data[second : second + size] = b, a
    return bytes(data)


def _integer(data: bytearray, reach: int, draw: random.Random) -> bytes:
    size = draw.choice((1, 2, 4, 8))
    at = draw.randrange(max(1, reach // size)) * size
    value = draw.choice(_INTEGERS) & ((1 << 8 * size) - 1)
    data[at : at + size] = value.to_bytes(size, draw.choice(("little", "big")))
    return bytes(data)


def _float(data: bytearray, reach: int, draw: random.Random) -> bytes:
    value = draw.choice(_FLOATS)
    form = draw.choice(("<f", ">f") if value != 1e308 else ("<d", ">d"))
    packed = struct.pack(form, value)
    at = draw.randrange(max(1, reach // len(packed))) * len(packed)
    data[at : at + len(packed)] = packed
    return bytes(data)


def _pair(data: bytearray, reach: int, draw: random.Random) -> bytes:
    """Another pair of capital letters in place of one: in DICOM, another type."""
    found = list(_CAPITALS.finditer(bytes(data[:reach])))
    if not found:
        return _flip(data, reach, draw)
    start = draw.choice(found).start()
    data[start : start + 2] = draw.choice(_TYPES)
    return bytes(data)


def _number(data: bytearray, reach: int, draw: random.Random) -> bytes:
    """Another number, text or nothing in place of a number; half of them as long as it was."""
    found = list(_NUMBER.finditer(bytes(data[:reach])))
    if not found:
        return _flip(data, reach, draw)
    start, end = draw.choice(found).span()
    new = draw.choice(_TEXTS)
    if draw.random() < 0.5:
        new = new[: end - start].ljust(end - start)
    return bytes(data[:start] + new + data[end:])


def _line(data: bytearray, reach: int, draw: random.Random) -> bytes:
    """A line of the header lost, doubled, moved, or with another value."""
    lines = bytes(data[:reach]).split(b"\n")
    at, rest = draw.randrange(len(lines)), bytes(data[reach:])
    match draw.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(draw.randrange(len(lines)), lines[at])
        case 2:
            lines.insert(draw.randrange(len(lines)), lines.pop(at))
        case _:
            name, mark, _ = lines[at].partition(draw.choice((b"=", b":", b",")))
            lines[at] = name + mark + draw.choice((b"", b" ")) + draw.choice(_TEXTS)
    return b"\n".join(lines) + rest


_BINARY = (_flip, _flip, _fill, _cut, _insert, _remove, _double, _swap, _integer, _integer, _float, _pair)
_WORDED = (_number, _number, _line)
