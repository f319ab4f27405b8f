import logging

import pytest

from ephaptic_grpc.limits import RECORD_CHARS
from ephaptic_grpc.records import RecordFormatter

FORGED = "2026-01-01 00:00:00,000 INFO ephaptic_grpc: all is well"
ODD = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x1b[2K\x1b[1G", "\x08" * 80, "\x9b1A"]


def written(message, *arguments, error=None, stack=None):
    formatter = RecordFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    exc_info = (type(error), error, error.__traceback__) if error is not None else None
    record = logging.LogRecord("ephaptic_grpc", logging.ERROR, "", 0, message, arguments, exc_info)
    record.stack_info = stack
    return formatter.format(record)


def is_one_record(text):
    """Whether a reader that breaks lines at whatever breaks them sees one beginning of a record."""
    first, *below = text.splitlines()
    assert "ERROR ephaptic_grpc: " in first
    assert all(line.startswith("    | ") for line in below)
    assert not {"\x1b", "\x08", "\x9b"} & {*text}
    return True


@pytest.mark.parametrize("odd", ODD)
def test_a_message_is_one_line(odd):
    text = written("%s failed", f"a{odd}{FORGED}")
    assert is_one_record(text)
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("odd", ODD)
def test_no_line_of_a_traceback_looks_like_a_record(odd):
    try:
        raise ValueError(f"a{odd}{FORGED}")
    except ValueError as error:
        error.add_note(f"{odd}{FORGED}")
        text = written("failed", error=error, stack=f"Stack{odd}{FORGED}")
    assert is_one_record(text)
    assert "test_no_line_of_a_traceback" in text
    assert FORGED in text  # nothing is lost


def test_long_ones_lose_their_middle():
    text = written("x" * 10_000_000, error=ValueError("y" * 10_000_000))
    assert len(text) < 3 * RECORD_CHARS
    assert "characters are left out" in text
    assert is_one_record(text)


def test_what_cannot_be_shown_is_said():
    class UnshowableError(Exception):
        @property
        def __notes__(self):
            raise SystemExit

    assert written("failed", error=UnshowableError()).endswith("\n    | the error can't be shown")


def test_halves_of_characters_are_written():
    written("\ud800", error=ValueError("\udfff")).encode()


def test_a_message_whose_arguments_do_not_fit_is_told_without_them():
    class UnshowableArgument:
        def __str__(self):
            raise ValueError(FORGED)

    for text in (written("%s and %s", "a"), written("%s", UnshowableArgument()), written(UnshowableArgument())):
        assert is_one_record(text)
        assert text.endswith(" (its arguments can't be shown)")


def test_a_traceback_from_another_process_is_told():
    record = logging.makeLogRecord({"name": "ephaptic_grpc", "levelname": "ERROR", "exc_text": f"Traceback\n{FORGED}"})
    text = RecordFormatter("%(levelname)s %(name)s: %(message)s").format(record)
    assert text.splitlines()[1:] == ["    | Traceback", f"    | {FORGED}"]
