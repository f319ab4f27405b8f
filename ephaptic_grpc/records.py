"""How ``serve`` writes its log: whatever is in a record, it can't be taken for another one.

The first line of a record begins with its time. What is below it, a traceback as a rule, stands behind a bar, and
characters that move the cursor or break a line in some reader are escaped.
"""

import logging
import re
from typing import Any, Final

from ephaptic_grpc.limits import RECORD_CHARS

_BAR: Final = "    | "

_ODD: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but the tab and the newline
    r"\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"  # what some reader breaks lines at or turns them around with
    r"\ud800-\udfff]"  # halves of characters
)


class RecordFormatter(logging.Formatter):
    """Records of which each line tells where it belongs."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = _message(record)
        record.asctime = self.formatTime(record)
        below = [record.stack_info] if record.stack_info else []
        if record.exc_info:
            below.insert(0, self.formatException(record.exc_info))
        elif record.exc_text:  # of another process, which can't hand on more
            below.insert(0, record.exc_text)
        first = _bounded(self.formatMessage(record)).replace("\n", "\\n")
        lines = [line for text in below for line in _bounded(text).split("\n")]
        return "".join([first, *(f"\n{_BAR}{line}" for line in lines)])

    def formatException(self, ei: Any) -> str:  # noqa: N802  as logging calls it
        try:
            return super().formatException(ei)
        except BaseException:  # whatever the error's own code raises
            return "the error can't be shown"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # of arguments that don't fit, or whatever their own code raises: logging would write it itself
        text = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        return f"{text} (its arguments can't be shown)"


def _bounded(text: str) -> str:
    """A text without odd characters and, where it is long, without its middle."""
    left_out = len(text) - RECORD_CHARS
    if left_out > 0:
        text = f"{text[: RECORD_CHARS // 2]}\n... {left_out} characters are left out ...\n{text[-RECORD_CHARS // 2 :]}"
    return printable(text)


def printable(text: str) -> str:
    """A text, which can be a stranger's, that does nothing to a terminal or a log but break lines at its newlines."""
    return _ODD.sub(lambda odd: odd[0].encode("unicode_escape").decode(), text)
