"""What commands leave behind: words on the terminal, files, and the status that they exit with."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

import typer

_ODD: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but the tab and the newline
    r"\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"  # what some reader breaks lines at or turns them around with
    r"\ud800-\udfff]"  # halves of characters
)

FAILED: Final = 1
MISUSED: Final = 2


def say(text: str) -> None:
    """Tell a person something that isn't the result."""
    print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """A text, which can be a stranger's, that does nothing to a terminal or a log but break lines at its newlines."""
    return _ODD.sub(lambda odd: odd[0].encode("unicode_escape").decode(), text)


def fail(text: str, code: int = FAILED) -> NoReturn:
    """Say what is wrong, and exit."""
    say(f"error: {text}")
    raise typer.Exit(code)


def save(files: Mapping[Path, bytes], command: str, *, check: bool) -> None:
    """Write the files that differ from what is there; or only say which they are, and fail."""
    differing = [path for path, data in files.items() if not path.is_file() or path.read_bytes() != data]
    if check:
        for path in differing:
            print(f"{path} {'differs' if path.exists() else 'is missing'}")
        if differing:
            fail(f"{len(differing)} of {len(files)} files are not what the code says: run ephaptic-grpc {command}")
        return
    for path in differing:
        try:
            _write(path, files[path])
        except OSError as error:
            fail(f"can't write {path}: {error.strerror}")
        print(f"wrote {path}")
    if not differing:
        print(f"{os.path.commonpath(files)} is up to date")


def _write(path: Path, data: bytes) -> None:
    """Write a whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
