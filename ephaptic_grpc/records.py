"""How ``serve`` writes its log: whatever is in a record, it can't be taken for another one.

The first line of a record begins with its time. What is below it, a traceback as a rule, stands behind a bar, and
characters that move the cursor or break a line in some reader are escaped.
"""

import logging
from typing import Final

from ephaptic_grpc.limits import RECORD_CHARS
from ephaptic_grpc.output import printable

_BAR: Final = "    | "


class RecordFormatter(logging.Formatter):
    """Records of which each line tells where it belongs."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        below = [record.stack_info] if record.stack_info else []
        if record.exc_info:
            below.insert(0, self._traceback(record.exc_info))
        first = _bounded(self.formatMessage(record)).replace("\n", "\\n")
        lines = [line for text in below for line in _bounded(text).split("\n")]
        return "".join([first, *(f"\n{_BAR}{line}" for line in lines)])

    def _traceback(self, error: object) -> str:
        try:
            return self.formatException(error)  # type: ignore[arg-type]
        except BaseException:  # whatever the error's own code raises
            return "the error can't be shown"


def _bounded(text: str) -> str:
    """A text without odd characters and, where it is long, without its middle."""
    left_out = len(text) - RECORD_CHARS
    if left_out > 0:
        text = f"{text[: RECORD_CHARS // 2]}\n... {left_out} characters are left out ...\n{text[-RECORD_CHARS // 2 :]}"
    return printable(text)
