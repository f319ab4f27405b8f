"""What can differ between an old and a new contract, how much that matters, and what is said of it to a person.

The same difference is one thing in an argument, which callers send, and another in a result, which they read.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Final, NamedTuple, TypeVar

T = TypeVar("T")


class Severity(StrEnum):
    """What a difference means to callers who stay as they are; the worst first."""

    BREAKING = "breaking"
    UNCLEAR = "unclear"
    COMPATIBLE = "compatible"

    @property
    def weight(self) -> int:
        """Its place in an order that begins with the worst."""
        return list(Severity).index(self)


class Side(Enum):
    """Who sends: callers their arguments, or the service its results."""

    ARGUMENT = "argument"
    RESULT = "result"

    def in_time(self, sent: T, taken: T) -> tuple[T, T]:
        """What is sent and what is taken as the old and the new; or the other way round, which is the same."""
        return (sent, taken) if self is Side.ARGUMENT else (taken, sent)


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Attributes:
        severity: what it means.
        path: where, from where the comparison began, such as ``.address.city`` or ``[].price``.
        sentence: who breaks, and what to do instead.
    """

    severity: Severity
    path: str
    sentence: str


class Rule(NamedTuple):
    """A kind of difference: for each side its severity and a sentence, in whose braces go ``old`` and ``new``."""

    argument: tuple[Severity, str]
    result: tuple[Severity, str]

    def found(self, side: Side, path: str = "", *, old: object = "", new: object = "") -> Difference:
        """The difference at a place."""
        severity, sentence = self.argument if side is Side.ARGUMENT else self.result
        return Difference(severity, path, sentence.format(old=old, new=new))


_BREAKING, _UNCLEAR, _COMPATIBLE = Severity.BREAKING, Severity.UNCLEAR, Severity.COMPATIBLE


def _of_arguments(severity: Severity, sentence: str) -> Rule:
    """A rule for parameters, which results don't have."""
    return Rule((severity, sentence), (severity, sentence))


REQUIRED: Final = Rule(
    (_BREAKING, "has to be given now: callers who leave it out are refused; give it a default"),
    (_BREAKING, "can be missing now: callers who count on it fail; always send it"),
)
LEFT_OUT: Final = Rule(
    (_COMPATIBLE, "can be left out now: callers who give it go on as before"),
    (_COMPATIBLE, "is always there now: callers who were ready to miss it go on as before"),
)
NEW_AND_REQUIRED: Final = Rule(
    (_BREAKING, "is new and has to be given: callers who don't know it are refused; give it a default"),
    (_BREAKING, "is gone: callers who read it fail; keep sending it until nobody reads it"),
)
NEW_AND_OPTIONAL: Final = Rule(
    (_COMPATIBLE, "is new and can be left out: callers who don't know it go on as before"),
    (_BREAKING, "is gone: callers who read it find nothing, or a default; keep sending it until nobody reads it"),
)
ALIASED: Final = Rule(
    (_COMPATIBLE, "is called {new} now, and still read from {old}: callers who send that go on as before"),
    (_COMPATIBLE, "is called {new} now, and still read from {old}"),
)
ALIAS_GONE: Final = Rule(
    (
        _UNCLEAR,
        "is no longer read from {old}, too: callers who send that are refused or not heard; wait until none does",
    ),
    (_COMPATIBLE, "is read from {new}, too"),
)
IGNORED: Final = Rule(
    (_UNCLEAR, "is gone: what callers send there is dropped in silence; keep it until nobody sends it"),
    (_COMPATIBLE, "is new: callers who don't know it pass over it"),
)
FORBIDDEN: Final = Rule(
    (_BREAKING, "is gone, and what isn't known is forbidden: callers who send it are refused; keep it"),
    (_BREAKING, "is new, and callers' models forbid what they don't know: they fail; give it in a new function"),
)
OTHERS_IGNORED: Final = Rule(
    (_UNCLEAR, "keeps no other fields now: what callers send beside is dropped in silence; keep taking them"),
    (_COMPATIBLE, "can have other fields now: callers who don't know them pass over them"),
)
OTHERS_FORBIDDEN: Final = Rule(
    (_BREAKING, "forbids other fields now: callers who send some are refused; keep taking them"),
    (_BREAKING, "can have other fields now, which callers' models forbid: they fail; keep to the known ones"),
)
TYPE: Final = Rule(
    (_BREAKING, "was {old}, is {new}: callers who send what it was are refused; take both"),
    (_BREAKING, "was {old}, is {new}: callers who expect what it was fail; give the new type a new name"),
)
READS_NUMBERS: Final = Rule(
    (_UNCLEAR, "was {old}, is {new}: plain numbers fit, but not all that callers could send; try what they do send"),
    (_BREAKING, "was {old}, is {new}: callers who expect what it was fail; give the new type a new name"),
)
VALUES: Final = Rule(
    (_BREAKING, "no longer takes {old}: callers who send it are refused; keep taking it until nobody does"),
    (_BREAKING, "can be {new} now: callers who know only the old values fail; send it to those alone who ask for it"),
)
VALUE_KINDS: Final = Rule(
    (_UNCLEAR, "was an enum, is {new}: an enum also reads numbers from text; keep the enum, or look what callers send"),
    (_UNCLEAR, "was {old}, is {new}: whether callers know each value can't be told; compare them"),
)
MEMBER: Final = Rule(
    (_BREAKING, "no longer takes {old}: callers who send it are refused; keep it beside the others"),
    (_BREAKING, "can be {new} now: callers who don't know it fail; give it in a new function, or to those who ask"),
)
UNTAGGED: Final = Rule(
    (
        _UNCLEAR,
        "is told by {new} now: callers who leave that out, as they could, are refused; make sure that all send it",
    ),
    (_UNCLEAR, "is told by {old}, which may be missing now: callers who need it fail; give it no default"),
)
BOUND: Final = Rule(
    (_BREAKING, "has {new} where it had {old}: callers whose values lie between are refused; keep the old bound"),
    (_BREAKING, "has {new} where it had {old}: callers whose models hold to the old bound fail; stay within it"),
)
LIKENESS: Final = Rule(
    (
        _UNCLEAR,
        "has {new} where it had {old}: whether all that callers send still fits can't be told; try what they send",
    ),
    (_UNCLEAR, "has {new} where it had {old}: whether callers can read all of it can't be told; try what they read"),
)
FORMAT: Final = Rule(
    (_BREAKING, "was {old}, is {new}: callers who send other text are refused; take the old form, too"),
    (_BREAKING, "was {old}, is {new}: callers who read the old form fail; keep it"),
)
DUPLICATES: Final = Rule(
    (_UNCLEAR, "is a set now: what callers send twice counts once; take a list if that matters"),
    (_UNCLEAR, "is no set now: callers who make one of it lose what comes twice; keep each value once"),
)
DEFAULT: Final = Rule(
    (_UNCLEAR, "has the default {new} instead of {old}: callers who leave it out get another outcome; keep {old}"),
    (_COMPATIBLE, "has the default {new} instead of {old}: the service sends it anyway"),
)
UNCOVERED: Final = Rule(
    (_UNCLEAR, "changed in a way that no rule covers ({new}): try what callers send against the new service"),
    (_UNCLEAR, "changed in a way that no rule covers ({new}): try what the new service sends against old clients"),
)
WIDER: Final = Rule(
    (_COMPATIBLE, "was {old}, is {new}: all that callers send is still taken"),
    (_COMPATIBLE, "was {old}, is {new}: callers know all that it can be"),
)

GONE: Final = _of_arguments(_BREAKING, "is gone: callers who give it are refused; keep it, with a default")
RENAMED: Final = _of_arguments(
    _BREAKING, "is called {new} now: callers who give it by name are refused; keep the name, as an alias if need be"
)
MOVED: Final = _of_arguments(
    _BREAKING, "was number {old}, is number {new}: callers by position give something else there; add new ones last"
)
ONLY_BY_NAME: Final = _of_arguments(
    _BREAKING, "goes by name only now: callers who give it by position are refused; leave it before the *"
)
ONLY_BY_POSITION: Final = _of_arguments(
    _BREAKING, "goes by position only now: callers who give it by name are refused; leave it behind the /"
)
SWALLOWED: Final = _of_arguments(
    _UNCLEAR, "is one of {new} now: callers go on, if the function still looks for it there; keep it by name"
)
DRAWN: Final = _of_arguments(
    _UNCLEAR, "was one of {old}: callers who gave something there give it here now; choose a name that nobody gave"
)


def under(place: str, differences: Iterable[Difference]) -> list[Difference]:
    """Differences that were found from a place on, with their paths from further up."""
    return [replace(difference, path=place + difference.path) for difference in differences]


def worst(differences: Iterable[Difference]) -> Severity:
    """The worst severity among some differences; compatible where there are none."""
    found = (difference.severity for difference in differences)
    return min(found, key=lambda severity: severity.weight, default=Severity.COMPATIBLE)
