"""Contracts that nobody wrote with good intent, for the tests of what is generated from them."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ephaptic_grpc.contract import Contract, Function, Kind, Parameter
from ephaptic_grpc.schemas import compact

ESCAPES = [
    *('"""', "'''", "\\", '\\"', '"', "'", "\n", "\r", "\u2028", "\x0c", "*/", "/*", "//", "};", "\\N{x}", "\\u12"),
    *("\\x", "{x}", "#", "\x00", "$", "`", "</script>", "import os\nos.system('x')", "\ufb01", "__import__('os')"),
]
text = st.lists(st.sampled_from(ESCAPES) | st.text(st.characters(codec="utf-8"), max_size=6), max_size=6).map("".join)
keys = text | st.sampled_from(["self", "model_config", "class", "date", "list", "__init__", "default", "constants", ""])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


NAMES = ["User", "list", '"""\\\n', "\u00bc-Input", "\u00bc_Input", "Model", ""]
"""Of definitions. Any schema can refer to any of them."""

leaves = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "number", "boolean", "null", "object", "array", "nonsense"])},
        optional={"description": text, "format": keys, "title": text},
    ),
    st.fixed_dictionaries({"const": json_values}),
    st.fixed_dictionaries({"enum": st.lists(json_values, max_size=3)}),
    st.fixed_dictionaries({"$ref": st.sampled_from([f"#/$defs/{name}" for name in NAMES])}),
    st.just({}),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"type": st.just("array"), "items": inner, "uniqueItems": st.booleans()}),
        st.fixed_dictionaries({"type": st.just("array"), "prefixItems": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"type": st.just("object"), "additionalProperties": inner | st.booleans()}),
    ),
    max_leaves=4,
)
fields = st.tuples(schemas, st.just({}) | st.fixed_dictionaries({"default": json_values})).map(
    lambda both: {**both[0], **both[1]}
)
definitions = st.one_of(
    schemas,
    st.fixed_dictionaries(
        {
            "description": text,
            "enum": st.lists(text | st.integers(), min_size=1, max_size=4),
            "x-enum-varnames": st.lists(keys, max_size=4),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("object"),
            "description": text,
            "properties": st.dictionaries(keys, fields, max_size=4),
            "required": st.lists(keys, max_size=2),
        }
    ),
)
parameters = st.builds(
    Parameter,
    name=st.sampled_from(["self", "__x", "x", "str", "_"]),
    kind=st.just(Kind.KEYWORD_ONLY),
    required=st.booleans(),
    default=st.none() | json_values.map(compact),
    schema=schemas,
    alias=text,
)
functions = st.builds(
    Function,
    name=st.sampled_from(["f", "list", "str", "date", "Model", "default"]),
    doc=text,
    streams=st.booleans(),
    parameters=st.lists(parameters, max_size=3, unique_by=lambda one: one.name).map(tuple),
    value=schemas,
)
contracts = st.builds(
    Contract,
    service=st.just("hostile.v1.HostileService"),
    functions=st.lists(functions, max_size=3, unique_by=lambda one: one.name).map(tuple),
    definitions=st.fixed_dictionaries(dict.fromkeys(NAMES, definitions)),
)

hostile_contracts = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
