import gc
from typing import Annotated, Any
from weakref import ref

import pytest
from pydantic import BaseModel, Field, SecretStr

from ephaptic_grpc import ExposeError, Service
from ephaptic_grpc.contract import Contract, Kind, fingerprint
from ephaptic_grpc.descriptors import file_of, read_file


class User(BaseModel):
    """Somebody."""

    name: str


class Other(BaseModel):
    name: str


def contract_of(function, name="f") -> Contract:
    service = Service("test.v1.TestService")
    service.expose(name=name)(function)
    return Contract.of(service)


def parameters(function) -> dict[str, Any]:
    (made,) = contract_of(function).functions
    return {parameter.name: parameter for parameter in made.parameters}


def test_each_parameter_is_described():
    def function(a: int, /, b: str = "x", *rest: float) -> None: ...

    made = parameters(function)
    assert [(name, one.kind, one.required, one.default, one.schema) for name, one in made.items()] == [
        ("a", Kind.POSITIONAL_ONLY, True, None, {"type": "integer"}),
        ("b", Kind.POSITIONAL_OR_KEYWORD, False, '"x"', {"type": "string"}),
        ("rest", Kind.VAR_POSITIONAL, False, None, {"type": "number"}),
    ]

    def by_name(*, c: int = Field(ge=1), d: Annotated[int, Field(alias="D")] = 2, **more: bytes) -> None: ...

    made = parameters(by_name)
    assert [(name, one.kind, one.required, one.default, one.alias) for name, one in made.items()] == [
        ("c", Kind.KEYWORD_ONLY, True, None, ""),
        ("d", Kind.KEYWORD_ONLY, False, "2", "D"),
        ("more", Kind.VAR_KEYWORD, False, None, ""),
    ]
    assert made["more"].schema == {"type": "string", "format": "base64url"}
    assert made["c"].schema == {"type": "integer", "minimum": 1}


def test_kinds_are_those_of_python():
    import inspect

    for kind in Kind:
        assert getattr(inspect.Parameter, kind.name) == kind.value


def test_what_must_not_be_told_is_no_default():
    secret, made_by, made_of = SecretStr("geheim"), Field(default_factory=lambda: "x"), Field(default_factory=list)

    def function(
        a: SecretStr = secret,
        b: float = float("inf"),
        c: object = object(),
        d: list[int] = made_of,
        e: str = made_by,
        f: SecretStr | None = secret,
    ) -> None: ...

    made = parameters(function)
    assert {name: one.default for name, one in made.items()} == dict.fromkeys("abcef") | {"d": "[]"}
    assert not any(one.required for one in made.values())
    assert "geheim" not in str(contract_of(function).as_json())


def test_a_definition_is_shared():
    def function(one: User, many: dict[str, list[User]]) -> User: ...

    contract = contract_of(function)
    assert list(contract.definitions) == ["User"]
    assert contract.functions[0].value == {"$ref": "#/$defs/User"}


def test_what_is_recursive_and_the_same_both_ways_has_one_name(shapes):
    class Aliased(BaseModel):
        name: str = Field(validation_alias="in", serialization_alias="out")

    def function(one: Aliased) -> Aliased: ...

    assert {"Node", "Everything"} <= set(Contract.of(shapes).definitions)
    assert set(contract_of(function).definitions) == {"Aliased-Input", "Aliased-Output"}


def test_what_pydantic_has_no_schema_for_is_anything():
    class Odd:
        @classmethod
        def __get_pydantic_core_schema__(cls, source, handler):
            from pydantic_core import core_schema

            return core_schema.no_info_plain_validator_function(
                cls, serialization=core_schema.plain_serializer_function_ser_schema(str)
            )

    def function(odd: Odd) -> list[Odd]: ...

    made = contract_of(function).functions[0]
    assert made.parameters[0].schema == {}
    assert made.value == {"type": "array", "items": {}}


def test_what_a_type_says_of_itself_and_makes_no_sense_is_left_out():
    class Form(BaseModel):
        name: str = Field(json_schema_extra={"required": True, "minLength": "3", "format": "name"})

    def function(form: Form) -> None: ...

    contract = contract_of(function)
    assert contract.definitions["Form"]["properties"] == {"name": {"type": "string", "format": "name"}}
    assert read_file(file_of(contract)) == [contract]


def hash_of(function) -> str:
    contract = contract_of(function)
    return contract.fingerprint(contract.functions[0])


def test_a_fingerprint_is_of_what_callers_rely_on():
    def original(user: User, limit: int = 3) -> list[User]: ...
    def documented(user: User, limit: Annotated[int, Field(description="At most.")] = 3) -> list[User]: ...
    def renamed(user: Other, limit: int = 3) -> list[Other]: ...

    documented.__doc__ = "Documented."
    assert hash_of(original) == hash_of(documented) == hash_of(renamed)

    def other_name(person: User, limit: int = 3) -> list[User]: ...
    def other_default(user: User, limit: int = 4) -> list[User]: ...
    def other_type(user: User, limit: float = 3) -> list[User]: ...
    def other_kind(user: User, *, limit: int = 3) -> list[User]: ...
    def other_value(user: User, limit: int = 3) -> set[str]: ...
    def needed(user: User, limit: int) -> list[User]: ...

    changed = [other_name, other_default, other_type, other_kind, other_value, needed]
    assert len({hash_of(original), *map(hash_of, changed)}) == 1 + len(changed)


def test_a_fingerprint_is_of_what_definitions_say():
    def function(user: object) -> None: ...

    hashes = set()
    for fields in ({"name": (str, ...)}, {"name": (int, ...)}, {"title": (str, ...)}, {"name": (str, "x")}):
        from pydantic import create_model

        function.__annotations__["user"] = create_model("Local", **fields)
        hashes.add(hash_of(function))
    assert len(hashes) == 4


def test_a_procedure_has_the_fingerprint_of_its_function_in_any_contract(shapes):
    contract = Contract.of(shapes)
    for function in contract.functions:
        assert contract.fingerprint(function) == fingerprint(shapes.procedures[function.name])


def test_a_fingerprint_that_was_asked_for_keeps_no_function():
    def expose() -> ref[object]:
        def f() -> int: ...

        service = Service("app.v1.AppService")
        service.expose(f)
        assert fingerprint(service.procedures["f"])
        return ref(f)

    function = expose()
    gc.collect()
    assert function() is None


def test_making_a_contract_warns_of_nothing_and_keeps_to_what_was_exposed(recwarn, shapes):
    Contract.of(shapes)
    assert not recwarn.list


@pytest.mark.parametrize("count", [0, 1])
def test_json_is_json(count):
    import json

    contract = contract_of(lambda: None, name="f") if count else Contract.of(Service("test.v1.TestService"))
    assert json.loads(json.dumps(contract.as_json(), allow_nan=False))["service"] == "test.v1.TestService"


def test_a_type_that_has_no_json_schema_is_named_by_its_place():
    class Broken(BaseModel):
        @classmethod
        def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> Any:
            raise RuntimeError("boo")

    def takes(a: int, broken: list[Broken]) -> None: ...
    def gives(a: int) -> Broken: ...

    for function, place in ((takes, "parameter 'broken'"), (gives, "what it gives")):
        with pytest.raises(ExposeError, match=rf"test.v1.TestService: in f, the type of {place} can't be .*boo"):
            contract_of(function)
