"""What commands leave behind: words on the terminal, files, and the status that they exit with."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

import typer

from ephaptic_grpc.records import printable

FAILED: Final = 1
MISUSED: Final = 2


def say(text: str) -> None:
    """Tell a person something that isn't the result."""
    with suppress(OSError):  # the exit code says it, too
        print(printable(text), file=sys.stderr, flush=True)


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
