"""What happens to the bytes of a file: by chance, but the same every time."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
NUMBERS = (
    "-1",
    "0",
    "1e400",
    "1e99999999",
    "9" * 30,
    "18446744073709551615",
    "NaN",
    "true",
    "null",
)
WORDS = (
    '""',
    "[]",
    "{}",
    "[[[[]]]]",
    '"\\u0000"',
    '"../../x"',
    '"/etc/passwd"',
    '"' + "x" * 3000 + '"',
)


def flip(content: bytearray, random: Random) -> bytearray:
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    return content


def truncate(content: bytearray, random: Random) -> bytearray:
    return content[: random.randrange(len(content))]


def zero(content: bytearray, random: Random) -> bytearray:
    start, length = random.randrange(len(content)), random.choice((1, 4, 8, 64, 512))
    content[start : start + length] = bytes(len(content[start : start + length]))
    return content


def splice(content: bytearray, random: Random) -> bytearray:
    """A block of the file in another place of it, or over another."""
    source, target = random.randrange(len(content)), random.randrange(len(content))
    block = content[source : source + random.choice((1, 8, 64, 512, 4096))]
    content[target : target + len(block) * random.randrange(2)] = block
    return content


def length(content: bytearray, random: Random) -> bytearray:
    """An extreme number where one may stand that says how long something is."""
    size = random.choice((1, 2, 4, 8))
    start = random.randrange(max(len(content) - size, 1))
    number = random.choice(EXTREMES) % 256**size
    order = random.choice(("little", "big"))
    content[start : start + size] = number.to_bytes(size, order)  # type: ignore[arg-type]
    return content


def header(content: bytearray, random: Random) -> bytearray:
    """The same among the first bytes, where most of them stand."""
    head = length(content[:512], random)
    return head + content[512:]


def value(content: bytearray, random: Random) -> bytearray:
    """Another number or word in the place of one that is text."""
    found = list(re.finditer(rb'-?\d+(\.\d+)?(e-?\d+)?|"[^"\n]{0,80}"', content[:20_000]))
    if not found:
        return flip(content, random)
    place = random.choice(found)
    other = random.choice(NUMBERS + WORDS).encode()
    return content[: place.start()] + other + content[place.end() :]


def repeat(content: bytearray, random: Random) -> bytearray:
    """A line, or a piece, many times."""
    start = random.randrange(len(content))
    piece = content[start : start + random.choice((1, 2, 16, 256))]
    return content[:start] + piece * random.choice((2, 100, 1000)) + content[start:]


CHANGES: tuple[Callable[[bytearray, Random], bytearray], ...] = (
    *(flip, truncate, zero, splice, length, header, value, repeat),
)


def mutated(content: bytes, seed: str) -> bytes:
    """The bytes after one to three changes; the seed decides them all."""
    random, changed = Random(seed), bytearray(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        if changed:
            changed = random.choice(CHANGES)(changed, random)
    return bytes(changed)
