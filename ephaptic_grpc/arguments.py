"""The arguments of one function: JSON to Python on the server, Python to JSON on the client."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import Field, SecretBytes, SecretStr, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import (
    CoreSchema,
    PydanticSerializationError,
    SchemaError,
    SchemaSerializer,
    SchemaValidator,
    from_json,
    to_json,
)

from ephaptic_grpc.binary import VALIDATOR_CONFIG, serialiser_config
from ephaptic_grpc.errors import BadArgumentsError, ExposeError
from ephaptic_grpc.impossible import impossible
from ephaptic_grpc.mirrored import built, writing
from ephaptic_grpc.schemas import alias_names
from ephaptic_grpc.values import (
    Nan,
    is_callable,
    parameters_schema,
    refuse_nan,
    split_definitions,
    with_definitions,
)
from ephaptic_grpc.violations import bad_arguments

UNREADABLE = (PydanticUserError, SchemaError, TypeError)
"""What Pydantic raises of a type that it can't read."""

_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD
_REST = inspect.Parameter.VAR_POSITIONAL
_DEFAULTS = ("default", "default_factory")
_NAMED_REST = inspect.Parameter.VAR_KEYWORD


class Arguments:
    """What a function takes.

    Args:
        signature: of the function, with annotations that hold no unresolved names.

    Raises:
        ExposeError: a parameter that Pydantic can't read, or a signature that JSON can't call in full.
        NameError: a type names something that isn't defined (yet).
    """

    def __init__(self, signature: inspect.Signature) -> None:
        parameters = list(signature.parameters.values())
        self._as_object = go_by_name(parameters)
        self.schema, self._validate = _read(parameters)
        definitions, arguments = split_definitions(self.schema)
        _check(definitions, arguments)
        taken = [argument["schema"] for argument in arguments["arguments_schema"]]
        taken += [arguments[rest] for rest in ("var_args_schema", "var_kwargs_schema") if rest in arguments]
        nan = Nan(definitions)
        self._may_have_nan = any(map(nan.is_possible, taken))
        self._positions = [p.name for p in parameters if p.kind in (_POSITIONAL_ONLY, _EITHER)]
        # A default can be in the annotation, too.
        self._required = {it["name"] for it in arguments["arguments_schema"] if it["schema"]["type"] != "default"}
        # So many positions are all that a call needs; more than there are where it needs named ones as well.
        positions_do = self._required.issubset(self._positions)
        self._enough = len(self._required) if positions_do else len(self._positions) + 1
        self._signature = _with_defaults(signature, arguments["arguments_schema"])
        self._prepare_dump(parameters, definitions, arguments, nan)

    def _prepare_dump(
        self, parameters: list[inspect.Parameter], definitions: list[CoreSchema], arguments: Any, nan: Nan
    ) -> None:
        def serialiser(schema: Any) -> Callable[[object], bytes]:
            whole = with_definitions(schema, definitions)
            written = writing(whole)
            config = serialiser_config(whole)
            # For the server to refuse: null could be taken for None. A class has its own configuration, though.
            config["ser_json_inf_nan"] = "constants"
            # A value of another type goes as what it is: whether it fits is for the server to say. The round trip
            # leaves out what the server computes itself.
            if written is whole:
                serialiser = SchemaSerializer(whole, config)
            else:
                serialiser = built(SchemaSerializer, written, config)
            write = partial(serialiser.to_json, by_alias=True, round_trip=True, warnings=False)
            return partial(_dump_without_nan, serialiser, write) if nan.is_hidden(schema) else write

        self._dump: dict[str, tuple[bytes, Callable[[object], bytes]]] = {}
        for schema in arguments["arguments_schema"]:
            name = schema["name"]
            secret = _is_secret(self._signature.parameters[name].annotation)
            dump = _dump_secret if secret else serialiser(schema["schema"])
            self._dump[name] = _key(name, schema.get("alias")), dump
        self._members = [self._dump[name] for name in self._positions]
        rest = arguments.get("var_args_schema")
        self._dump_rest = serialiser(rest) if rest else None
        self._dump_named_rest = _named_rest(arguments, serialiser) if "var_kwargs_schema" in arguments else None
        self._rest = next((p.name for p in parameters if p.kind is _REST), None)

    def load(self, json: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and the named arguments that some JSON stands for; empty JSON means none.

        Raises:
            ServiceError: INVALID_ARGUMENT with what doesn't fit.
        """
        if self._may_have_nan and (b"NaN" in json or b"Infinity" in json):
            self._refuse_nan(json)
        try:
            args, kwargs = self._validate.validate_json(json or b"[]")
        except ValidationError as error:
            raise bad_arguments(error, json, self._positions, self._rest) from None
        return args, kwargs

    def _refuse_nan(self, json: bytes) -> None:
        """Raise ServiceError where there is a NaN or an Infinity. They are no JSON, and Pydantic reads them."""
        try:
            from_json(json, allow_inf_nan=False)
        except ValueError as error:
            with suppress(ValueError):
                from_json(json)
                raise BadArgumentsError(f"bad arguments: there is no NaN and no Infinity in JSON ({error})") from None

    def dump(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The JSON of a call with these arguments.

        Raises:
            TypeError: the function can't be called with them, in Python's own words.
            PydanticSerializationError: a value that JSON can't carry.
        """
        try:
            if not self._as_object:
                return self._dump_array(args, kwargs)
            if not kwargs and self._enough <= len(args) <= len(self._members):
                members = [key + dump(value) for (key, dump), value in zip(self._members, args, strict=False)]
                return b"{" + b",".join(members) + b"}"
            given = dict(zip(self._positions, args, strict=False))
            twice = len(args) > len(given) or not given.keys().isdisjoint(kwargs)
            if twice or not self._required <= given.keys() | kwargs:
                self._signature.bind(*args, **kwargs)  # raises
            given.update(kwargs)
            members = []
            for name, value in given.items():
                dump = self._dump.get(name)
                if dump is None:
                    if self._dump_named_rest is None:
                        self._signature.bind(*args, **kwargs)  # raises
                        raise AssertionError(name)
                    dump = self._dump_named_rest(name)
                members.append(dump[0] + dump[1](value))
            return b"{" + b",".join(members) + b"}"
        except PydanticSerializationError as error:
            where = self._unfit(args, kwargs)
            raise PydanticSerializationError(f"{where}: {error}" if where else str(error)) from None

    def _unfit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        """The first argument that JSON can't carry; of the rest of the positions, what takes them."""
        for name, value in (*zip(self._positions, args, strict=False), *kwargs.items()):
            dump = self._dump.get(name) or (self._dump_named_rest and self._dump_named_rest(name))
            try:
                if dump:
                    dump[1](value)
            except PydanticSerializationError:
                return name
        return self._rest

    def _dump_array(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        bound = self._signature.bind(*args, **kwargs)
        if kwargs:  # a position before a named one can't be left empty
            last = max(map(self._positions.index, bound.arguments))
            bound.apply_defaults()
            for name in self._positions[last + 1 :]:
                del bound.arguments[name]
            if self._rest is not None:
                bound.arguments.pop(self._rest, None)
            for name, value in bound.arguments.items():
                if isinstance(value, FieldInfo):
                    bound.arguments[name] = value.get_default(call_default_factory=True, validated_data={})
        elements = [self._dump[name][1](value) for name, value in zip(self._positions, bound.args, strict=False)]
        rest = bound.args[len(self._positions) :]
        if self._dump_rest is not None:
            elements += map(self._dump_rest, rest)
        return b"[" + b",".join(elements) + b"]"


def _dump_without_nan(serialiser: SchemaSerializer, write: Callable[[object], bytes], value: object) -> bytes:
    json = write(value)
    if b"null" in json:
        refuse_nan(serialiser, value, round_trip=True)
    return json


def go_by_name(parameters: Sequence[inspect.Parameter]) -> bool:
    """Whether all arguments of a function can go in a JSON object; else all can go in an array.

    Raises:
        ExposeError: neither is so.
    """
    by_position = [p.name for p in parameters if p.kind in (_POSITIONAL_ONLY, _REST)]
    by_name = [p.name for p in parameters if p.kind in (inspect.Parameter.KEYWORD_ONLY, _NAMED_REST)]
    if by_position and by_name:
        raise ExposeError(
            f"{', '.join(by_position)} can only go by position and {', '.join(by_name)} only by name, but the "
            "arguments of a call are either a JSON array or an object: let every parameter go by name "
            "(no '/' and no *args), or every one by position (no '*' and no **kwargs)"
        )
    return not by_position


def _with_defaults(signature: inspect.Signature, arguments: Sequence[Any]) -> inspect.Signature:
    """A signature with the defaults that Pydantic knows: those of ``Annotated[int, Field(default=5)]`` as well, and
    none that are no default (``= Field(gt=0)``).
    """
    schemas = {argument["name"]: argument["schema"] for argument in arguments}

    def completed(parameter: inspect.Parameter) -> inspect.Parameter:
        schema = schemas.get(parameter.name)
        if schema is None or schema["type"] != "default":
            return parameter.replace(default=parameter.empty)
        if parameter.default is not parameter.empty:
            return parameter
        return parameter.replace(default=Field(**{key: schema[key] for key in _DEFAULTS if key in schema}))

    return signature.replace(parameters=[*map(completed, signature.parameters.values())])


def wire_name(name: str, alias: Any) -> str:
    """What an argument is called in JSON: by Pydantic's alias of it, the first of several, or by its own name."""
    names = alias_names(alias)
    if alias is not None and not names:
        raise ExposeError(f"{name!r} is read from inside of another argument (AliasPath): give it an alias")
    return names[0] if names and names[0] else name


def _key(name: str, alias: Any) -> bytes:
    return to_json(wire_name(name, alias)) + b":"


def _is_secret(annotation: Any) -> bool:
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return any(map(_is_secret, get_args(annotation)))
    return annotation in (SecretStr, SecretBytes)


def _dump_secret(value: object) -> bytes:
    """An argument that is declared as a secret: the one place where Pydantic's mask would be no help."""
    revealed = value.get_secret_value() if isinstance(value, SecretStr | SecretBytes) else value
    return to_json(revealed, bytes_mode="base64")


def unpacked(arguments: Any) -> dict[str, Any] | None:
    """The fields of ``**kwargs: Unpack[TypedDict]``, from the schema of the arguments; None where it has no such."""
    if arguments.get("var_kwargs_mode") != "unpacked-typed-dict":
        return None
    fields: dict[str, Any] = arguments["var_kwargs_schema"]["fields"]
    return fields


def _named_rest(arguments: Any, serialiser: Callable[[Any], Callable[[object], bytes]]) -> Callable[[str], Any]:
    """How ``**kwargs`` are sent: all of one type, or each as its ``Unpack[TypedDict]`` says."""
    typed = unpacked(arguments)
    if typed is not None:
        fields = {
            name: (_key(name, field.get("validation_alias")), serialiser(field["schema"]))
            for name, field in typed.items()
        }
        anything = partial(to_json, bytes_mode="base64")
        return lambda name: fields.get(name) or (_key(name, None), anything)
    dump = serialiser(arguments["var_kwargs_schema"])
    return lambda name: (_key(name, None), dump)


def _read(parameters: list[inspect.Parameter]) -> tuple[Any, SchemaValidator]:
    try:
        schema = _at_once(parameters_schema(parameters))
        return schema, SchemaValidator(schema, VALIDATOR_CONFIG)
    except UNREADABLE as error:
        if len(parameters) != 1:
            for parameter in parameters:
                _read([parameter])
            raise ExposeError(f"Pydantic can't make a check of its parameters: {reason(error)}") from error
        (parameter,) = parameters
        raise ExposeError(
            f"Pydantic can't read the type of parameter {parameter.name!r}, {_shown(parameter.annotation)}: use a type "
            f"that JSON can carry, or teach it to Pydantic with Annotated[...] ({reason(error)})"
        ) from error


def reason(error: Exception) -> str:
    """Pydantic's words, in one line: of a SchemaError the last, which says what is wrong in the end."""
    lines = str(error).splitlines() or [repr(error)]
    return lines[-1].strip() if isinstance(error, SchemaError) else lines[0]


def _check(definitions: list[CoreSchema], arguments: Any) -> None:
    """Raise ExposeError where a parameter can't be given."""
    for argument in arguments["arguments_schema"]:
        if is_callable(argument["schema"]):
            raise ExposeError(f"parameter {argument['name']!r} is something to call, and JSON can't carry that")
        unusable = impossible(argument["schema"])
        if unusable:
            raise ExposeError(f"the type of parameter {argument['name']!r} can't be used: {unusable}")
    unusable = impossible([definitions, arguments])
    if unusable:
        raise ExposeError(f"a type of its parameters can't be used: {unusable}")


def _at_once(arguments: Any) -> Any:
    """Iterables as lists. Pydantic makes an iterator of an ``Iterable``, and would check its items while the function
    runs: too late for bad ones to be bad arguments.
    """
    for argument in split_definitions(arguments)[1]["arguments_schema"]:
        schema = argument["schema"]
        while schema["type"] in ("default", "nullable"):
            schema = schema["schema"]
        if schema["type"] == "generator":
            schema["type"] = "list"
    return arguments


def _shown(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
