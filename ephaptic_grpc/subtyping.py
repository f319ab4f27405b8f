"""Whether all that one JSON Schema describes is taken by another, over the schemas that Pydantic makes.

What isn't known to fit is never said to: a keyword without a rule is an unclear difference. Two assumptions make the
answers those of a person. A sender sends no fields that its own type doesn't know. And a caller's arguments can also be
what Pydantic reads as their type without being of it, such as ``"5"`` for an integer; a service's results can't.
"""

from typing import Any, Final

from ephaptic_grpc import differences as rules
from ephaptic_grpc.bounds import bounds
from ephaptic_grpc.definitions import (
    Definitions,
    aliases,
    asks_more,
    bare,
    is_union,
    is_well_formed,
    json_type,
    label,
    members,
    resolved,
    shown,
    tags,
    text,
    values,
)
from ephaptic_grpc.differences import Difference, Severity, Side, under, worst
from ephaptic_grpc.formats import format_rule
from ephaptic_grpc.schemas import Schema
from ephaptic_grpc.vocabulary import COUNTS, ENUM_NAMES, NUMBERS

_KNOWN: Final[dict[str, tuple[str, ...]]] = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "propertyNames", *COUNTS),
    "array": ("items", "prefixItems", "uniqueItems", *COUNTS),
    "string": ("format", "pattern", *COUNTS, *NUMBERS),  # a Decimal is text with numeric bounds
    "number": NUMBERS,
    "integer": NUMBERS,
    "boolean": (),
    "null": (),
}
"""The keywords that have rules, by type."""

_FIELDS: Final = ("properties", "required", "additionalProperties", "propertyNames")

_MOST_STEPS: Final = 20_000
_MOST_LEVELS: Final = 100
_MOST_DIFFERENCES: Final = 200
"""Of one pair of definitions; more would say nothing that these don't."""


class Subtyping:
    """Compares what is sent with what is taken, on one side of a service.

    Args:
        side: on that of arguments, the old schema is what is sent; on that of results, the new one.
        definitions: of both contracts.
    """

    def __init__(self, side: Side, definitions: Definitions) -> None:
        self._side = side
        self._definitions = definitions
        self._sent_names, self._taken_names = self._side.in_time(definitions.old, definitions.new)
        self._known: dict[tuple[str, str], list[Difference]] = {}
        self._assumed: dict[tuple[str, str], int] = {}
        self._used: set[tuple[str, str]] = set()
        self._inside = 0  # so many fields and items deep
        self._levels = 0
        self._steps = 0

    def compare(self, old: object, new: object) -> list[Difference]:
        """All that differs between an old and a new schema; nothing where they say the same."""
        if not (is_well_formed(old) and is_well_formed(new)):
            return [self._uncovered("no JSON Schema")]
        self._steps = 0
        return list(dict.fromkeys(self._compare(*self._side.in_time(old, new))))

    def default(self, old: object, new: object) -> list[Difference]:
        """What becomes of what callers leave out, by the defaults in an old and a new schema."""
        if not (isinstance(old, dict) and isinstance(new, dict)) or self._side is Side.RESULT:
            return []  # a result has its defaults in it
        was, is_now = (text(one["default"]) if "default" in one else "one that isn't told" for one in (old, new))
        return [] if was == is_now else [rules.DEFAULT.found(self._side, old=was, new=is_now)]

    def _same(self, sent: Schema, taken: Schema) -> bool:
        return self._definitions.same(*self._side.in_time(sent, taken))

    def _compare(self, sent: Any, taken: Any) -> list[Difference]:
        sent, taken = bare(sent), bare(taken)
        if self._same(sent, taken):
            return []
        self._steps += 1
        if self._steps > _MOST_STEPS or self._levels >= _MOST_LEVELS:
            return [self._uncovered("too large to compare")]
        self._levels += 1
        try:
            if "$ref" in sent and "anyOf" in taken and members(resolved(sent, self._sent_names) or {}) is None:
                return self._one_of(sent, taken)  # under its name, by which it is known when it comes again
            if "$ref" in sent or "$ref" in taken:
                return self._named(sent, taken)
            return self._unfolded(sent, taken)
        finally:
            self._levels -= 1

    def _named(self, sent: Schema, taken: Schema) -> list[Difference]:
        """Compare what names stand for. A pair that is being compared already, further out in the data, is assumed
        to fit: what is wrong with it is found there.
        """
        key = text(sent), text(taken)
        if key in self._known:
            return self._known[key]
        if key in self._assumed:
            self._used.add(key)
            return [] if self._inside > self._assumed[key] else [self._uncovered("a type made of itself")]
        ours, theirs = resolved(sent, self._sent_names), resolved(taken, self._taken_names)
        if ours is None or theirs is None:
            return [self._uncovered("a reference with more beside it")]
        outer, self._used = self._used, set()
        self._assumed[key] = self._inside
        try:
            found = self._compare(ours, theirs)
        finally:
            del self._assumed[key]
            used = self._used - {key}
            self._used = outer | used
        found = sorted(dict.fromkeys(found), key=lambda difference: difference.severity.weight)[:_MOST_DIFFERENCES]
        if not used:  # else it holds only where what it was assumed on holds
            self._known[key] = found
        return found

    def _unfolded(self, sent: Schema, taken: Schema) -> list[Difference]:
        if not taken:
            return self._wider(sent, taken)
        if not sent:
            return [self._differs(rules.TYPE, sent, taken)]
        if "oneOf" in sent and "oneOf" in taken:
            return self._tagged(sent, taken)
        if "oneOf" in sent and "anyOf" in taken:  # None beside it, say
            for member in taken["anyOf"]:
                if "oneOf" in (resolved(member, self._taken_names) or {}):
                    return self._compare(sent, member)
        parts = members(sent)
        if parts is not None:
            return self._each(parts, sent, taken)
        if "oneOf" in taken:
            return self._told_by_tag(sent, taken)
        if "anyOf" in taken:
            return self._one_of(sent, taken)
        if values(sent) is not None:
            return self._value(sent, taken)
        listed = values(taken)
        if listed is not None:
            fits = sent == {"type": "null"} and None in listed
            return self._wider(sent, taken) if fits else [self._differs(rules.TYPE, sent, taken)]
        return self._typed(sent, taken)

    # Unions and values

    def _each(self, parts: list[Any], sent: Schema, taken: Schema) -> list[Difference]:
        """A union is taken where each of its members is."""
        found: list[Difference] = []
        refused: list[str] = []
        for member in parts:
            here = self._compare(member, taken)
            listed = values(member)
            if listed and worst(here) is Severity.BREAKING:
                refused += map(text, listed)
            elif worst(here) is Severity.BREAKING and not is_union(taken) and not self._is_alike(member, taken):
                found.append(self._differs(rules.MEMBER, member, member))
            else:  # that one member alone is less than all says nothing
                kept = (one for one in here if one.path or one.severity is not Severity.COMPATIBLE)
                found += under("" if is_union(taken) else label(member), kept)
        if refused:
            found.append(rules.VALUES.found(self._side, old=", ".join(refused), new=", ".join(refused)))
        return found or self._wider(sent, taken)

    def _one_of(self, sent: Schema, taken: Schema) -> list[Difference]:
        """What is no union is taken where one member of a union takes it."""
        if asks_more(taken, "anyOf"):
            return [self._uncovered("a union with more beside it")]
        trials = [(self._compare(sent, member), member) for member in taken["anyOf"]]
        for severity in (Severity.COMPATIBLE, Severity.UNCLEAR):
            for found, member in trials:
                if worst(found) is severity:
                    return under(label(member), found) or self._wider(sent, taken)
        alike = [(found, member) for found, member in trials if self._is_alike(sent, member)]
        if len(alike) == 1:
            found, member = alike[0]
            return under(label(member), found)
        return [self._differs(rules.MEMBER, sent, sent)]

    def _is_alike(self, sent: Any, taken: Any) -> bool:
        """Whether what is wrong inside says more than that the one is not the other."""
        ours, theirs = resolved(sent, self._sent_names) or {}, resolved(taken, self._taken_names) or {}
        if ours.get("type") == "object" == theirs.get("type"):
            return not ours.get("properties") or bool(ours["properties"].keys() & theirs.get("properties", {}).keys())
        return "type" in ours and ours["type"] == theirs.get("type")

    def _tagged(self, sent: Schema, taken: Schema) -> list[Difference]:
        """Two unions whose members are told by a field, which is always there."""
        ours, theirs = tags(sent), tags(taken)
        if ours is None or theirs is None or ours[0] != theirs[0] or asks_more(taken, "oneOf", "discriminator"):
            return [self._uncovered("what tells the members of a union")]
        found: list[Difference] = []
        for tag, target in ours[1].items():
            if tag in theirs[1]:
                found += under(f"<{tag}>", self._compare({"$ref": target}, {"$ref": theirs[1][tag]}))
            else:
                found.append(rules.MEMBER.found(self._side, old=text(tag), new=text(tag)))
        return found or self._wider(sent, taken)

    def _told_by_tag(self, sent: Schema, taken: Schema) -> list[Difference]:
        """One type, and a union whose members are told by a field."""
        told = tags(taken)
        if told is None or asks_more(taken, "oneOf", "discriminator"):
            return [self._uncovered("what tells the members of a union")]
        tag, targets = told
        listed = values(resolved(sent.get("properties", {}).get(tag, {}), self._sent_names)) or []
        if not listed or not all(isinstance(value, str) and value in targets for value in listed):
            return [self._differs(rules.MEMBER, sent, sent)]
        found: list[Difference] = []
        if tag not in sent.get("required", ()):
            found.append(rules.UNTAGGED.found(self._side, old=text(tag), new=text(tag)))
        for value in listed:
            found += under(f"<{value}>", self._compare(sent, {"$ref": targets[value]}))
        return found or self._wider(sent, taken)

    def _value(self, sent: Schema, taken: Schema) -> list[Difference]:
        """One value, which is known."""
        (value,) = values(sent) or (None,)
        kind, theirs = json_type(value), taken.get("type")
        refused = [rules.VALUES.found(self._side, old=text(value), new=text(value))]
        listed = values(taken)
        if listed is not None:
            if text(value) not in map(text, listed):
                return refused
            # An enum of numbers reads them from text, too. A Literal doesn't.
            lax = self._side is Side.ARGUMENT and ENUM_NAMES in sent and ENUM_NAMES not in taken
            return [self._differs(rules.VALUE_KINDS, sent, taken)] if lax and not isinstance(value, str) else []
        if theirs not in _KNOWN:
            return [self._uncovered("no single type")]
        if kind != theirs and (kind, theirs) != ("integer", "number"):
            return refused
        known = {"string": ("minLength", "maxLength"), "integer": NUMBERS, "number": NUMBERS}.get(kind, ())
        if kind in ("array", "object") or asks_more(taken, *known):
            return [self._differs(rules.VALUE_KINDS, sent, taken)]
        exact: Schema = {"type": kind}
        if isinstance(value, str):
            exact |= {"minLength": len(value), "maxLength": len(value)}
        elif kind in ("integer", "number"):
            exact |= {"minimum": value, "maximum": value, "multipleOf": value}
        return bounds(self._side, exact, taken) or self._wider(sent, taken)

    # One type

    def _typed(self, sent: Schema, taken: Schema) -> list[Difference]:
        ours, theirs = sent.get("type"), taken.get("type")
        if ours not in _KNOWN or theirs not in _KNOWN:
            return [self._uncovered("no single type")]
        for key in sorted(taken.keys() - {"type", ENUM_NAMES, *_KNOWN[theirs]}):
            if key not in sent or not self._same({key: sent[key]}, {key: taken[key]}):
                return [self._uncovered(key)]
        if ours != theirs and (ours, theirs) != ("integer", "number"):
            reads_numbers = ours in ("integer", "number") and taken.get("format") == "decimal"
            return [self._differs(rules.READS_NUMBERS if reads_numbers else rules.TYPE, sent, taken)]
        found = bounds(self._side, sent, taken)
        self._inside += 1
        if theirs == "object":
            found += self._object(sent, taken)
        elif theirs == "array":
            found += self._array(sent, taken)
        elif theirs == "string":
            rule = format_rule(self._side, sent, taken)
            found += [] if rule is None else [self._differs(rule, sent, taken)]
        self._inside -= 1
        return found or self._wider(sent, taken)

    def _object(self, sent: Schema, taken: Schema) -> list[Difference]:
        ours, theirs = sent.get("properties", {}), taken.get("properties", {})
        given, needed = sent.get("required", ()), taken.get("required", ())
        if "patternProperties" in taken:
            return self._by_pattern(sent, taken)
        others = sent.get("additionalProperties")
        rest = [*sent.get("patternProperties", {}).values(), *([] if others in (None, False) else [others])]
        found: list[Difference] = []
        senders: dict[str, list[str]] = {}
        for name, schema in ours.items():
            for one in self._names(name, schema):
                senders.setdefault(one, []).append(name)
        known: set[str] = set()
        read: set[str] = set()
        for name, schema in theirs.items():
            names = self._names(name, schema)
            key = next((one for one in names if one in ours), name)
            known.update(names)
            read.add(key)
            here = self._field(key, name, sent, taken)
            beside = dict.fromkeys(sender for one in names for sender in senders.get(one, ()) if sender != key)
            unlisted = rest if key not in ours or len(names) > 1 else ()
            for other in (*(ours[sender] for sender in beside), *unlisted):  # which may go by such a name
                here += self._compare(other, schema)
            found += under(f".{key}", here)
        for name, schema in ours.items():
            if name not in read:
                found += under(f".{name}", self._beyond(schema, taken, rules.IGNORED, rules.FORBIDDEN))
            else:
                lost = (one for one in self._names(name, schema) if one not in known)
                found += (rules.ALIAS_GONE.found(self._side, f".{name}", old=one) for one in lost)
        for schema in rest:
            found += under("{}", self._beyond(schema, taken, rules.OTHERS_IGNORED, rules.OTHERS_FORBIDDEN))
        absent = (name for name in needed if name not in theirs and name not in given)
        return [*found, *(rules.REQUIRED.found(self._side, f".{name}") for name in absent), *self._keys(sent, taken)]

    def _field(self, key: str, name: str, sent: Schema, taken: Schema) -> list[Difference]:
        """A field that is taken under a name, and sent under a key that it is read by, if at all."""
        ours, theirs = sent.get("properties", {}), taken["properties"]
        needed = name in taken.get("required", ())
        if key not in ours:
            return [(rules.NEW_AND_REQUIRED if needed else rules.NEW_AND_OPTIONAL).found(self._side)]
        found = [] if key == name else [rules.ALIASED.found(self._side, old=key, new=name)]
        found += self._compare(ours[key], theirs[name])
        given = key in sent.get("required", ())
        return found + self._presence(ours[key], theirs[name], given=given, needed=needed)

    def _names(self, name: str, field: Any) -> list[str]:
        """The names that a field is read by, its own first; in results that is all, for readers know no other."""
        return [name, *(aliases(field) if self._side is Side.ARGUMENT else ())]

    def _presence(self, ours: Any, theirs: Any, *, given: bool, needed: bool) -> list[Difference]:
        """Whether a field that both know is there."""
        if needed and not given:
            return [rules.REQUIRED.found(self._side)]
        if given and not needed:
            return [rules.LEFT_OUT.found(self._side)]
        return [] if given else self.default(*self._side.in_time(ours, theirs))

    def _beyond(self, sent: Any, taken: Schema, ignored: rules.Rule, forbidden: rules.Rule) -> list[Difference]:
        """Fields that aren't known by name where they are taken."""
        known = taken.get("additionalProperties")
        if known is None or known is False:
            return [(ignored if known is None else forbidden).found(self._side)]
        return self._compare(sent, known)

    def _keys(self, sent: Schema, taken: Schema) -> list[Difference]:
        """What is asked of the keys themselves."""
        ours, theirs = sent.get("propertyNames"), taken.get("propertyNames")
        if theirs is None or self._same({"propertyNames": ours}, {"propertyNames": theirs}):
            return []
        if ours is None or sent.get("properties"):
            return [self._uncovered("propertyNames")]
        return under("{key}", self._compare(ours, theirs))

    def _by_pattern(self, sent: Schema, taken: Schema) -> list[Difference]:
        """Dictionaries whose keys have a pattern."""
        ours, theirs = sent.get("patternProperties", {}), taken["patternProperties"]
        if ours.keys() != theirs.keys() or any(sent.get(key) or taken.get(key) for key in _FIELDS):
            return [self._uncovered("patternProperties")]
        return [one for pattern in ours for one in under("{}", self._compare(ours[pattern], theirs[pattern]))]

    def _array(self, sent: Schema, taken: Schema) -> list[Difference]:
        first, theirs = sent.get("prefixItems", []), taken.get("prefixItems", [])
        most, places = sent.get("maxItems"), max(len(first), len(theirs))
        found: list[Difference] = []
        for index in range(places if most is None else min(places, most)):
            both = index < len(first) and index < len(theirs)
            one = first[index] if index < len(first) else sent.get("items", {})
            other = theirs[index] if index < len(theirs) else taken.get("items", {})
            here = self._compare(one, other)
            if both and index >= sent.get("minItems", 0):
                here += self.default(*self._side.in_time(one, other))
            found += under(f"[{index}]", here)
        items: list[Difference] = []
        if most is None or most > places:
            items = self._compare(sent.get("items", {}), taken.get("items", {}))
        return found + under("[]", items) + self._once(sent, taken, same=not (items or found))

    def _once(self, sent: Schema, taken: Schema, *, same: bool) -> list[Difference]:
        """Sets, which Pydantic reads from arrays whose values may come twice, and counts without those."""
        ours, theirs = bool(sent.get("uniqueItems")), bool(taken.get("uniqueItems"))
        counted = "minItems" in taken or "maxItems" in taken
        if theirs and not ours:
            return [rules.DUPLICATES.found(self._side)]
        if ours and counted and (not same if theirs else self._side is Side.ARGUMENT):
            return [self._differs(rules.LIKENESS, sent, taken)]
        return []

    # What is said

    def _differs(self, rule: rules.Rule, sent: Any, taken: Any) -> Difference:
        old, new = map(shown, self._side.in_time(sent, taken))
        return rule.found(self._side, old=old, new=new)

    def _wider(self, sent: Schema, taken: Schema) -> list[Difference]:
        alike = self._definitions.look_alike(*self._side.in_time(sent, taken))
        return [] if alike else [self._differs(rules.WIDER, sent, taken)]

    def _uncovered(self, what: str) -> Difference:
        return rules.UNCOVERED.found(self._side, new=what)
