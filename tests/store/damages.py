"""What may happen to a stored file: each makes it one that cannot be read."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

SECRET = "the content of another file"


def _text(change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda path: path.write_text(change(path.read_text()), encoding="utf-8") and None


def _field(**fields: object) -> Callable[[Path], None]:
    return _text(lambda text: json.dumps({**json.loads(text), **fields}))


def _in_its_place(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def _socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the whole path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def _link_out(path: Path) -> None:
    secret = path.parents[3] / "secret.json"
    secret.write_text(f'{{"format": 2, "{SECRET}": 1}}')
    path.symlink_to(secret)


OF_ANY_FILE: dict[str, Callable[[Path], None]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:100]) and None,
    "empty": lambda path: path.write_bytes(b"") and None,
    "a pipe": _in_its_place(os.mkfifo),
    "a folder": _in_its_place(Path.mkdir),
    "a socket": _in_its_place(_socket),
    "a link that leads nowhere": _in_its_place(lambda path: path.symlink_to("not-there")),
    "a link to itself": _in_its_place(lambda path: path.symlink_to(path.name)),
    "a link out": _in_its_place(_link_out),
    "a link to a device": _in_its_place(lambda path: path.symlink_to("/dev/zero")),
    "a tebibyte": lambda path: os.truncate(path, 2**40),
}
OF_RECORDS: dict[str, Callable[[Path], None]] = {
    **OF_ANY_FILE,
    "a merge": _text(lambda text: f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> theirs\n"),
    "a newer field": _field(robustness=1),
    "a newer format": _field(format=3),
    "no format": _text(lambda text: text.replace('"format"', '"id"')),
    "an odd format": _field(format=[[]]),
    "deep": _text(lambda _: "[" * 200_000 + "]" * 200_000),
    "wide": _text(lambda _: "[" + "[]," * 3_000_000 + "[]]"),
    "a huge number": _text(lambda text: text.replace('"created"', '"n": ' + "9" * 10**6 + ', "x"')),
    "a huge exponent": _text(lambda text: text.replace('"created"', '"n": 1e99999999, "x"')),
    "NaN": _text(lambda text: text.replace('"created"', '"seconds": NaN, "x"')),
    "a key twice": _text(lambda text: text.replace('"created"', '"format": 2, "created"')),
    "half a character": _text(lambda text: text.replace('"created": "', '"created": "\\ud800')),
    "other bytes": lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()) and None,
}
