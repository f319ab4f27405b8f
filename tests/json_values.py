"""JSON values that a JSON Schema describes, and others that Pydantic reads as such."""

from typing import Any

from hypothesis import strategies as st

from ephaptic_grpc.vocabulary import ALIASES
from ephaptic_grpc.vocabulary import NUMBERS as BOUNDS

ID = "5e1a9b0c-9d0f-4a55-8c0e-0a6b0d9f1c11"
INTEGERS = [0, 1, 2, 3, 5, 10, 11, -1, -5, 100, 2**53 + 1]
NUMBERS = [0.5, 1.5, -2.5, 1e300, 0.1, 4.0]
TEXTS = ["", "a", "b", "x", "ab", "abc", "é", "aaaaaaaa", "1", " 5 ", "1.5", "yes", "1e3", "NaN", "2020-01-01", "PT1S"]
FORMATS = {
    "date": ["2020-01-01", "2020-01-01T00:00:00", 86400],
    "date-time": ["2020-01-01T00:00:00Z", "2020-01-01", 1600000000, "1600000000", 1.5],
    "time": ["12:00:00", "12:00:00Z", 3600],
    "duration": ["PT1S", "P1D", 3.5, 60],
    "uuid": [ID, f"urn:uuid:{ID}", ID.replace("-", "")],
    "uuid4": [ID],
    "decimal": ["1.5", "3", 2, 2.5, "-1", "1e400", "12.345"],
    "base64url": ["YQ==", "YWI=", "", "YWJjZA=="],
    "uri": ["https://example.com/", "ftp://a", "http://" + "a" * 60 + ".b/" + "c" * 2100],
    "ipv4": ["127.0.0.1", 7],
    "email": ["a@example.com"],
}  # fmt: skip
LAX = {
    "integer": [True, False, 4.0, "5", " 7 ", "+3", "1_0", "2.0", "-1", 1e2],
    "number": [True, "1.5", "2", " 7 ", "1e3", "NaN", "inf"],
    "boolean": [0, 1, "yes", "off", "1", 1.0],
}


@st.composite
def json_values(draw, schema: Any, definitions: dict[str, Any], *, lax: bool, depth: int = 3):
    """One value. Not each is valid: what Pydantic says of it counts."""

    def below(part):
        return draw(json_values(part, definitions, lax=lax, depth=depth - 1))

    if not isinstance(schema, dict) or not schema.keys() - {"title", "description", "default", ALIASES}:
        return draw(st.sampled_from([None, True, *INTEGERS, *NUMBERS, *TEXTS, [], [1], {}, {"a": 1}]))
    if "$ref" in schema:
        return draw(
            json_values(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions, lax=lax, depth=depth)
        )
    for key in ("anyOf", "oneOf"):
        if key in schema:
            parts = schema[key]
            if depth <= 0 and {"type": "null"} in parts:
                return None
            return below(draw(st.sampled_from(parts)))
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if listed is not None:
        numbers = [one for one in listed if isinstance(one, int | float)]
        odd = [str(numbers[0]), float(numbers[0]), bool(numbers[0])] if lax and numbers else []
        return draw(st.sampled_from([*listed, *odd]))
    kind = schema["type"]
    if kind == "object":
        return draw(_objects(schema, below, depth))
    if kind == "array":
        return draw(_arrays(schema, below, depth))
    if kind == "null":
        return None
    pool = {"integer": INTEGERS, "number": [*INTEGERS, *NUMBERS], "boolean": [True, False], "string": TEXTS}[kind]
    if kind in ("integer", "number"):
        edges = [schema[key] for key in BOUNDS if key in schema]
        pool = [*pool, *(edge + step for edge in edges for step in (-1, 0, 1))]
    if "pattern" in schema:
        return draw(st.from_regex(schema["pattern"]))
    for key in ("minLength", "maxLength"):
        if key in schema:
            pool = [*pool, "y" * schema[key]]
    if "format" in schema:
        pool = FORMATS.get(schema["format"], pool)
    if not lax:
        pool = [one for one in pool if isinstance(one, str)] if kind == "string" else pool
    return draw(st.sampled_from([*pool, *(LAX.get(kind, []) if lax else [])]))


@st.composite
def _objects(draw, schema, below, depth):
    required = schema.get("required", [])
    made = {}
    for name, part in schema.get("properties", {}).items():
        optional = depth > 0 and draw(st.booleans())
        if name in required or optional:
            aliases = part.get(ALIASES, []) if isinstance(part, dict) else []
            made[draw(st.sampled_from([name, *aliases]))] = below(part)
    others = schema.get("additionalProperties")
    for _ in range(draw(st.integers(0, 2)) if others not in (None, False) and depth > 0 else 0):
        names = schema.get("propertyNames")
        key = below(names) if names else draw(st.sampled_from(["a", "b", "c", "x", "1", "name"]))
        made.setdefault(str(key), below(others))
    for pattern, part in schema.get("patternProperties", {}).items():
        made[draw(st.from_regex(pattern))] = below(part)
    return made


@st.composite
def _arrays(draw, schema, below, depth):
    first = schema.get("prefixItems", [])
    least, most = schema.get("minItems", 0), schema.get("maxItems", 1000)
    size = draw(st.integers(least, max(least, min(most, least + 2 if depth > 0 else least))))
    made = [below(first[index] if index < len(first) else schema.get("items", {})) for index in range(size)]
    if schema.get("uniqueItems") and made and draw(st.booleans()):
        made += made[:1] * draw(st.integers(1, 3))
    return made
