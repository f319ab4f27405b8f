"""How a service has changed since an older contract of it, and what that means to the callers of the older one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic_core import from_json

from ephaptic_grpc import differences as rules
from ephaptic_grpc.codegen.annotations import STARS
from ephaptic_grpc.contract import Contract, Function, Kind, Parameter
from ephaptic_grpc.definitions import Definitions, aliases
from ephaptic_grpc.differences import Difference, Severity, Side, under
from ephaptic_grpc.names import rpc_name
from ephaptic_grpc.subtyping import Subtyping

_BY_POSITION = (Kind.POSITIONAL_ONLY, Kind.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Kind.POSITIONAL_OR_KEYWORD, Kind.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Finding:
    """One change of a service.

    Attributes:
        severity: what it means to callers who stay as they are.
        function: which one; empty where it is the whole service.
        path: the place in its arguments, such as ``order.items[].price``, or in its result, such as
            ``-> [].price``; empty where it is the whole function.
        sentence: who breaks, and what to do instead.
    """

    severity: Severity
    function: str
    path: str
    sentence: str


def evolution(old: Contract, new: Contract) -> list[Finding]:
    """All that has changed from an old contract to a new one, the worst first, else in the order of the old one."""
    findings = list(_evolved(old, new))
    return sorted(dict.fromkeys(findings), key=lambda finding: finding.severity.weight)


def _evolved(old: Contract, new: Contract) -> Iterator[Finding]:
    # By the name on the wire, which is all that a generated client uses.
    was, now = ({rpc_name(function.name): function for function in one.functions} for one in (old, new))
    related = old.service == new.service or not was.keys().isdisjoint(now)
    if old.service != new.service:
        said = f"the service was {old.service}: all callers of that fail; serve it under its old name, too"
        if not related:
            said = f"{old.service} is another service, and has no function of this one: compare what belongs together"
        yield Finding(Severity.BREAKING, "", "", said)
    definitions = Definitions(old.definitions, new.definitions)
    functions = _Functions(definitions)
    gone, added = ([one[rpc] for rpc in one if rpc not in other] for one, other in ((was, now), (now, was)))
    twins = _twins((old, gone), (new, added)) if related else {}
    for rpc, function in was.items():
        if rpc in now:
            yield from functions.compare(function, now[rpc])
        else:
            twin = twins.get(function.name)
            what = f"is called {twin} now" if twin else "is gone"
            advice = "expose it under both names" if twin else "keep it until nobody calls it"
            yield Finding(Severity.BREAKING, function.name, "", f"{what}: all its callers fail; {advice}")
    for function in added:
        yield Finding(Severity.COMPATIBLE, function.name, "", "is new: nobody calls it yet")


def _twins(*sides: tuple[Contract, Sequence[Function]]) -> dict[str, str]:
    """The new names of functions that are gone: of the one that takes and gives the same, where nothing else does."""
    names: list[dict[str, str]] = []
    for contract, functions in sides:
        alike: dict[str, list[str]] = {}
        for function in functions:
            alike.setdefault(contract.fingerprint(function), []).append(function.name)
        names.append({told: found[0] for told, found in alike.items() if len(found) == 1})
    was, is_now = names
    return {was[told]: is_now[told] for told in was if told in is_now}


class _Functions:
    """Compares functions of an old and a new contract."""

    def __init__(self, definitions: Definitions) -> None:
        self._arguments = Subtyping(Side.ARGUMENT, definitions)
        self._results = Subtyping(Side.RESULT, definitions)

    def compare(self, old: Function, new: Function) -> Iterator[Finding]:
        if old.streams != new.streams:
            was, is_now = ("a stream", "one value")[:: 1 if old.streams else -1]
            said = f"gave {was}, gives {is_now}: all its callers fail; expose the new one under another name"
            yield Finding(Severity.BREAKING, old.name, "", said)
        if old.idempotent and not new.idempotent:
            said = (
                "was idempotent, is no longer: clients of the older contract make a call again that may have run; "
                "expose the new one under another name"
            )
            yield Finding(Severity.BREAKING, old.name, "", said)
        elif new.idempotent and not old.idempotent:
            said = "is idempotent now: newer clients make a call again that no server answered"
            yield Finding(Severity.COMPATIBLE, old.name, "", said)
        if 0 < new.reply_bytes < old.reply_bytes:
            said = f"gave up to {old.reply_bytes} bytes, gives {new.reply_bytes}: whoever asks for more is refused"
            yield Finding(Severity.UNCLEAR, old.name, "", said)
        for found in self._parameters(old.parameters, new.parameters):
            yield Finding(found.severity, old.name, found.path, found.sentence)
        if old.streams == new.streams:
            for found in self._results.compare(old.value, new.value):
                yield Finding(found.severity, old.name, f"-> {found.path}".rstrip(), found.sentence)

    def _parameters(self, old: Sequence[Parameter], new: Sequence[Parameter]) -> Iterator[Difference]:
        was, now = _Signature(old), _Signature(new)
        kept: set[str] = set()
        for parameter in old:
            path = _key(parameter)
            if parameter.kind in STARS:
                yield from under(path, self._rest(parameter, now.rest.get(parameter.kind)))
                continue
            other = now.match(parameter, was)
            renamed = None if other is not None else _renamed(parameter, was, now)
            if renamed is not None:
                kept.add(_key(renamed))
                yield rules.RENAMED.found(Side.ARGUMENT, path, new=_key(renamed))
                yield from under(path, self._kept(parameter, renamed, was, now))
            elif other is None:
                yield rules.GONE.found(Side.ARGUMENT, path)
            elif other.kind in STARS:
                yield from under(path, self._swallowed(parameter, other, was))
            else:
                kept.add(_key(other))
                if was.takes_by_name(parameter) and _key(other) != path:
                    yield rules.ALIASED.found(Side.ARGUMENT, path, old=path, new=_key(other))
                yield from under(path, self._kept(parameter, other, was, now))
        for other in new:
            known = other.kind in was.rest if other.kind in STARS else _key(other) in kept
            if not known:
                yield from under(_key(other), self._added(other, was))

    def _kept(self, old: Parameter, new: Parameter, was: "_Signature", now: "_Signature") -> Iterator[Difference]:
        yield from self._arguments.compare(old.schema, new.schema)
        if new.required and not old.required:
            yield rules.REQUIRED.found(Side.ARGUMENT)
        elif old.required and not new.required:
            yield rules.LEFT_OUT.found(Side.ARGUMENT)
        elif not old.required:
            told = ({} if one.default is None else {"default": from_json(one.default)} for one in (old, new))
            yield from self._arguments.default(*told)
        if was.takes_by_name(old) and new.kind is Kind.POSITIONAL_ONLY:
            yield rules.ONLY_BY_POSITION.found(Side.ARGUMENT)
        elif was.takes_by_name(old):
            lost = (one for one in aliases(old.schema) if not now.reads(one))
            yield from (rules.ALIAS_GONE.found(Side.ARGUMENT, old=one) for one in lost)
        if was.takes_by_position(old):
            if new.kind is Kind.KEYWORD_ONLY:
                yield rules.ONLY_BY_NAME.found(Side.ARGUMENT)
                return
            # By index where arrays alone are taken: there, a name that is elsewhere now was for another argument.
            named = now.position_of(old) if old.kind in _BY_NAME else None
            after = now.positions.index(new) if named is None else named
            if was.positions.index(old) != after:
                yield rules.MOVED.found(Side.ARGUMENT, old=was.positions.index(old) + 1, new=after + 1)

    def _swallowed(self, old: Parameter, rest: Parameter, was: "_Signature") -> Iterator[Difference]:
        """A parameter that goes by what takes the rest now."""
        yield rules.SWALLOWED.found(Side.ARGUMENT, new=_key(rest))
        if rest.kind is Kind.VAR_KEYWORD and was.takes_by_position(old):
            yield rules.ONLY_BY_NAME.found(Side.ARGUMENT)
        yield from self._arguments.compare(old.schema, rest.schema)

    def _rest(self, old: Parameter, new: Parameter | None) -> list[Difference]:
        """What takes the rest."""
        if new is None:
            return [rules.GONE.found(Side.ARGUMENT)]
        return self._arguments.compare(old.schema, new.schema)

    def _added(self, new: Parameter, was: "_Signature") -> Iterator[Difference]:
        yield (rules.NEW_AND_REQUIRED if new.required else rules.NEW_AND_OPTIONAL).found(Side.ARGUMENT)
        for kind, kinds in ((Kind.VAR_POSITIONAL, _BY_POSITION), (Kind.VAR_KEYWORD, _BY_NAME)):
            if kind in was.rest and new.kind in kinds:  # which took it until now
                yield rules.DRAWN.found(Side.ARGUMENT, old=_key(was.rest[kind]))
                yield from self._arguments.compare(was.rest[kind].schema, new.schema)


class _Signature:
    """The parameters of a function, by how they can be given."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.positions = [one for one in parameters if one.kind in _BY_POSITION]
        self.rest = {one.kind: one for one in parameters if one.kind in STARS}
        self._keys = {_key(one): one for one in parameters if one.kind not in STARS}
        self._aliases = {alias: one for one in parameters for alias in aliases(one.schema)}
        self._needs_position = any(one.required and one.kind is Kind.POSITIONAL_ONLY for one in parameters)
        self._needs_name = any(one.required and one.kind is Kind.KEYWORD_ONLY for one in parameters)

    def takes_by_name(self, parameter: Parameter) -> bool:
        """Whether a call with a JSON object can give a parameter."""
        return parameter.kind in _BY_NAME and not self._needs_position

    def takes_by_position(self, parameter: Parameter) -> bool:
        """Whether a call with a JSON array can give a parameter."""
        return parameter.kind in _BY_POSITION and not self._needs_name

    def knows(self, key: str) -> bool:
        """Whether there is a parameter of a name, however it can be given."""
        return key in self._keys

    def reads(self, key: str) -> bool:
        """Whether an argument can be given by a name, be it another one of a parameter."""
        return key in self._keys or key in self._aliases or Kind.VAR_KEYWORD in self.rest

    def position_of(self, parameter: Parameter) -> int | None:
        """The position of the parameter of the same name, if there is one."""
        keys = [_key(one) for one in self.positions]
        return keys.index(_key(parameter)) if _key(parameter) in keys else None

    def match(self, parameter: Parameter, was: "_Signature") -> Parameter | None:
        """What takes the argument that was for a parameter of an older signature; None where it is refused."""
        if was.takes_by_name(parameter):
            key = _key(parameter)
            return self._keys.get(key) or self._aliased(key, was) or self.rest.get(Kind.VAR_KEYWORD)
        index = was.positions.index(parameter)
        return self.positions[index] if index < len(self.positions) else self.rest.get(Kind.VAR_POSITIONAL)

    def _aliased(self, key: str, was: "_Signature") -> Parameter | None:
        """The parameter that is read by an older name; None where it has something else from an older call already."""
        other = self._aliases.get(key)
        if other is None or was.knows(_key(other)):
            return None
        return other if key == next(one for one in aliases(other.schema) if was.knows(one)) else None


def _renamed(parameter: Parameter, was: _Signature, now: _Signature) -> Parameter | None:
    """The new parameter in the place of one whose name is gone."""
    index = was.positions.index(parameter) if was.takes_by_position(parameter) else len(now.positions)
    other = now.positions[index] if index < len(now.positions) else None
    return None if other is None or was.knows(_key(other)) else other


def _key(parameter: Parameter) -> str:
    """What a parameter is called in JSON; with its stars where it takes the rest."""
    return STARS.get(parameter.kind, "") + (parameter.alias or parameter.name)
