"""Findings as a person reads them, and as a program does."""

import json
import textwrap
from collections.abc import Sequence
from typing import Final

from ephaptic_grpc.differences import Severity
from ephaptic_grpc.evolution import Finding

_BOLD: Final = "1"
_COLOURS: Final = {Severity.BREAKING: "1;31", Severity.UNCLEAR: "1;33", Severity.COMPATIBLE: "1;32"}
"""Bold, and red, yellow, green: parameters of the terminal's SGR sequence."""
_MARGIN: Final = " " * 12
_NARROWEST: Final = 40
_MOST_PLACES: Final = 4
"""Of one sentence: a model that every function takes would fill the screen."""


def report(service: str, findings: Sequence[Finding], *, width: int, colour: bool) -> str:
    """One screen: what was found, places of which the same is to be said together.

    Args:
        service: its full name.
        findings: the worst first.
        width: in characters; a narrower one than 40 is taken for 40.
        colour: whether to mark severities and places with the codes of a terminal.
    """
    width = max(width, _NARROWEST)

    def styled(text: str, style: str = _BOLD) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if colour else text

    if not findings:
        return f"{styled(service)}: nothing has changed for its callers"
    counts = [(severity, sum(finding.severity is severity for finding in findings)) for severity in Severity]
    summary = ", ".join(styled(f"{count} {severity}", _COLOURS[severity]) for severity, count in counts if count)
    places: dict[tuple[Severity, str], list[str]] = {}
    for finding in findings:
        places.setdefault((finding.severity, _printable(finding.sentence)), []).append(_printable(_place(finding)))
    lines = [f"{styled(service)}: {summary}"]
    before = None
    for (severity, sentence), where in places.items():
        shown = where[:_MOST_PLACES]
        if len(where) > len(shown):
            shown.append(f"and {len(where) - len(shown)} more")
        first, *more = textwrap.wrap(", ".join(shown), width - len(_MARGIN))
        mark = _MARGIN
        if severity is not before:
            lines.append("")
            mark = styled(f"{severity:<{len(_MARGIN)}}", _COLOURS[severity])
        lines += [mark + styled(first), *(_MARGIN + styled(line) for line in more)]
        lines += textwrap.wrap(sentence, width, initial_indent=_MARGIN + "  ", subsequent_indent=_MARGIN + "  ")
        before = severity
    return "\n".join(lines)


def findings_json(service: str, findings: Sequence[Finding]) -> str:
    """The same for a program: ``{"service": ..., "verdict": ..., "findings": [...]}``."""
    verdict = findings[0].severity if findings else Severity.COMPATIBLE
    listed = [
        {
            "severity": finding.severity,
            "function": finding.function,
            "path": finding.path,
            "sentence": finding.sentence,
        }
        for finding in findings
    ]
    return json.dumps({"service": service, "verdict": verdict, "findings": listed}, indent=2)


def _place(finding: Finding) -> str:
    """Where it is: ``place(order.quantity)``, ``search() -> [].price``, ``cancel``."""
    if not finding.function:
        return "the service"
    if finding.path.startswith("->"):
        return f"{finding.function}() {finding.path}"
    return f"{finding.function}({finding.path})" if finding.path else finding.function


def _printable(text: str) -> str:
    """A contract comes from elsewhere, and its names go to a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
