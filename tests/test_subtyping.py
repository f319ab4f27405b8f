"""Schemas that Pydantic doesn't make: what comes from elsewhere is unclear, and never hangs or crashes."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ephaptic_grpc.definitions import Definitions, shown
from ephaptic_grpc.differences import Severity, Side, worst
from ephaptic_grpc.subtyping import Subtyping

BREAKING, UNCLEAR, COMPATIBLE = Severity

INTEGER, STRING = {"type": "integer"}, {"type": "string"}


def ref(name):
    return {"$ref": f"#/$defs/{name}"}


def compared(old, new, old_names=None, new_names=None, side=Side.ARGUMENT):
    return Subtyping(side, Definitions(old_names or {}, new_names or {})).compare(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (INTEGER, {"type": "integer", "not": {"const": 3}}),
        (INTEGER, {"allOf": [INTEGER]}),
        (INTEGER, {"oneOf": [INTEGER, STRING]}),
        (INTEGER, {"oneOf": [INTEGER], "discriminator": {"propertyName": 3, "mapping": {"a": []}}}),
        (INTEGER, {"oneOf": [INTEGER], "discriminator": {"propertyName": "a", "mapping": {"a": "nowhere"}}}),
        (INTEGER, {"anyOf": [INTEGER, STRING], "minimum": 3}),
        (INTEGER, {"minimum": 3}),
        (INTEGER, ref("missing")),
        (INTEGER, {"if": {}, "then": {"const": 1}}),
        (STRING, {"type": "string", "format": "hostname"}),
        ({"type": "array", "items": INTEGER}, {"type": "array", "items": INTEGER, "contains": {"const": 1}}),
        ({"type": "array"}, {"type": "array", "items": False}),
        ({"type": "object"}, {"type": "object", "dependentRequired": {"a": ["b"]}}),
        (
            {"type": "object", "patternProperties": {"^a": INTEGER}},
            {"type": "object", "patternProperties": {"^b": INTEGER}},
        ),
        ({"enum": [[1], {"a": 1}]}, {"type": "array"}),
    ],
)
def test_what_no_rule_covers_is_never_compatible(old, new):
    assert worst(compared(old, new)) is not COMPATIBLE


@pytest.mark.parametrize(
    "schema",
    [
        {"type": 3},
        {"type": "object", "properties": [1]},
        {"type": "object", "properties": {"a": 3}},
        {"type": "array", "items": [INTEGER]},
        {"anyOf": {"a": 1}},
        {"anyOf": [3]},
        {"enum": 3},
        {"$ref": 3},
        {"type": "integer", "minimum": "3"},
        {"type": "integer", "minimum": float("inf")},
    ],
)
def test_what_is_no_schema_is_unclear(schema):
    for old, new in ((schema, INTEGER), (INTEGER, schema)):
        assert worst(compared(old, new)) is not COMPATIBLE
        assert worst(compared({"type": "array", "items": old}, {"type": "array", "items": new})) is not COMPATIBLE
        assert worst(compared(ref("X"), ref("X"), {"X": old}, {"X": new})) is not COMPATIBLE


def test_several_types_are_a_union():
    several = {"type": ["integer", "null"]}
    assert worst(compared(INTEGER, several)) is COMPATIBLE
    assert worst(compared(STRING, several)) is BREAKING
    assert worst(compared(several, INTEGER)) is BREAKING
    assert compared(several, {"anyOf": [INTEGER, {"type": "null"}]}) == []


def test_a_change_far_away_is_seen_wherever_it_is_named():
    names = {"A": {"type": "array", "items": ref("B")}, "B": {"contentSchema": ref("C")}, "C": INTEGER}
    assert compared(ref("A"), ref("A"), names, names) == []
    assert worst(compared(ref("A"), ref("A"), names, {**names, "C": STRING})) is UNCLEAR


def test_a_type_that_is_made_of_itself_takes_nothing():
    itself = {"A": ref("A")}
    union = {"A": {"anyOf": [ref("A"), STRING]}}
    assert worst(compared(INTEGER, ref("A"), {}, itself)) is UNCLEAR
    assert worst(compared(INTEGER, ref("A"), {}, union)) is not COMPATIBLE
    assert worst(compared(ref("A"), STRING, union, {})) is not BREAKING


def test_what_holds_only_by_an_assumption_that_fails_is_not_remembered():
    """B's items fit while A is assumed to; A doesn't, and B by itself is compared again."""

    def names(value):
        return {
            "A": {"type": "object", "properties": {"b": ref("B"), "value": value}},
            "B": {"type": "object", "properties": {"a": ref("A")}},
        }

    definitions = Definitions(names(INTEGER), names(STRING))
    subtyping = Subtyping(Side.ARGUMENT, definitions)
    assert [found.path for found in subtyping.compare(ref("A"), ref("A"))] == [".value"]
    assert [found.path for found in subtyping.compare(ref("B"), ref("B"))] == [".a.value"]
    union = {"anyOf": [ref("A"), {"type": "null"}]}
    assert worst(subtyping.compare(union, union)) is BREAKING


def test_what_is_deep_or_wide_ends_and_is_unclear():
    chain = {f"N{index}": {"type": "array", "items": ref(f"N{index + 1}")} for index in range(5000)}
    other = {**chain, "N5000": STRING}
    assert worst(compared(ref("N0"), ref("N0"), {**chain, "N5000": INTEGER}, other)) is UNCLEAR

    def tangle(leaf):
        """Each refers to all others, and all to what differs."""
        count = range(12)
        every = {f"T{index}": ref(f"T{index}") for index in count}
        return {f"T{index}": {"type": "object", "properties": {**every, "leaf": leaf}} for index in count}

    found = compared(ref("T0"), ref("T0"), tangle(INTEGER), tangle(STRING))
    assert worst(found) is BREAKING
    assert len(found) <= 200
    assert sys.getrecursionlimit() <= 1000


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_bounds_are_those_of_arithmetic(data):
    keywords = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf")

    def bounded():
        chosen = data.draw(st.sets(st.sampled_from(keywords), max_size=3))
        low = 1 if chosen == {"multipleOf"} else -4
        return {"type": "integer"} | {
            key: data.draw(st.integers(1 if key == "multipleOf" else low, 6)) for key in sorted(chosen)
        }

    def has(schema, number):
        return (
            schema.get("minimum", number) <= number <= schema.get("maximum", number)
            and schema.get("exclusiveMinimum", number - 1) < number < schema.get("exclusiveMaximum", number + 1)
            and number % schema.get("multipleOf", 1) == 0
        )

    old, new = bounded(), bounded()
    lost = [number for number in range(-130, 131) if has(old, number) and not has(new, number)]
    if worst(compared(old, new)) is COMPATIBLE:
        assert not lost
    if worst(compared(new, old, side=Side.RESULT)) is COMPATIBLE:
        assert not lost


def test_a_schema_in_a_few_words():
    assert shown({"type": "integer", "minimum": 1}) == "int (minimum 1)"
    assert shown({"type": "string", "format": "uri", "maxLength": 9}) == "str (uri, maxLength 9)"
    assert shown({"type": "string", "format": "uuid"}) == "UUID"
    assert shown({"type": "object", "properties": {"name": {}, "age": {}}}) == "{name, age}"
    assert shown({"enum": ["x" * 50, "y" * 50]}).endswith("...")
