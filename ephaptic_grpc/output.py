"""What commands leave behind: words on the terminal, files, and the status that they exit with."""

import io
import os
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

import typer

from ephaptic_grpc.records import printable

FAILED: Final = 1
MISUSED: Final = 2

_PRINTED: Final = (1, 2)  # standard output, standard error


def open_standard_streams() -> None:
    """Put ``/dev/null`` in the place of standard streams that whoever started this program has closed: else what it
    opens gets their numbers, and is taken for them. And escape whatever a terminal can't show.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= max(_PRINTED):
        os.set_inheritable(number, True)  # by an Envoy, say
    os.close(number)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Tell a person something that isn't the result."""
    with suppress(OSError):  # the exit code says it, too
        print(printable(text), file=sys.stderr, flush=True)


def say_what_failed(error: OSError) -> None:
    """Say what is wrong where a command failed in what nobody foresaw: what it prints goes to a full disk, say."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be written to it
    if isinstance(error, FileNotFoundError) and not error.filename:  # only a working folder goes so
        say("error: the working folder has been removed")
    elif not isinstance(error, BrokenPipeError):  # of `| head`
        say(f"error: {error.filename or 'what is printed'}: {error.strerror}")


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
            stream = _stream(path)
            if stream is None:
                _replace(Path(os.path.realpath(path)), files[path])
            else:
                with stream:
                    stream.write(files[path])
        except OSError as error:
            fail(f"can't write {path}: {error.strerror}")
        if stream is None:  # else it would be told in the middle of what is written to standard output
            print(f"wrote {path}")
    if not differing:
        print(f"{os.path.commonpath(files)} is up to date")


def _stream(path: Path) -> BinaryIO | None:
    """What is written as it comes: a pipe, a device, or a file that this program prints to. None for any other."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(there.st_mode):
        return path.open("wb")
    printed = (number for number in _PRINTED if os.path.samestat(there, os.fstat(number)))
    return next((os.fdopen(os.dup(number), "wb") for number in printed), None)


def _replace(path: Path, data: bytes) -> None:
    """Write a whole file or nothing; it keeps the mode and the owner that it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            if path.exists():  # before there is anything to read
                _keep_access(path.stat(), temporary)
            file.write(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _keep_access(old: os.stat_result, new: Path) -> None:
    if os.name == "posix":
        with suppress(PermissionError):  # only root gives files away
            os.chown(new, old.st_uid, old.st_gid)
    new.chmod(stat.S_IMODE(old.st_mode))
