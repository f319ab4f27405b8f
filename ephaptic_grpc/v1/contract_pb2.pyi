from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ParameterKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PARAMETER_KIND_UNSPECIFIED: _ClassVar[ParameterKind]
    PARAMETER_KIND_POSITIONAL_ONLY: _ClassVar[ParameterKind]
    PARAMETER_KIND_POSITIONAL_OR_KEYWORD: _ClassVar[ParameterKind]
    PARAMETER_KIND_VAR_POSITIONAL: _ClassVar[ParameterKind]
    PARAMETER_KIND_KEYWORD_ONLY: _ClassVar[ParameterKind]
    PARAMETER_KIND_VAR_KEYWORD: _ClassVar[ParameterKind]
PARAMETER_KIND_UNSPECIFIED: ParameterKind
PARAMETER_KIND_POSITIONAL_ONLY: ParameterKind
PARAMETER_KIND_POSITIONAL_OR_KEYWORD: ParameterKind
PARAMETER_KIND_VAR_POSITIONAL: ParameterKind
PARAMETER_KIND_KEYWORD_ONLY: ParameterKind
PARAMETER_KIND_VAR_KEYWORD: ParameterKind
DEFINITIONS_FIELD_NUMBER: _ClassVar[int]
definitions: _descriptor.FieldDescriptor
FUNCTION_FIELD_NUMBER: _ClassVar[int]
function: _descriptor.FieldDescriptor

class Definition(_message.Message):
    __slots__ = ("name", "schema")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    name: str
    schema: str
    def __init__(self, name: _Optional[str] = ..., schema: _Optional[str] = ...) -> None: ...

class Function(_message.Message):
    __slots__ = ("name", "doc", "parameters", "value", "reply_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DOC_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    REPLY_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    doc: str
    parameters: _containers.RepeatedCompositeFieldContainer[Parameter]
    value: str
    reply_bytes: int
    def __init__(self, name: _Optional[str] = ..., doc: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[Parameter, _Mapping]]] = ..., value: _Optional[str] = ..., reply_bytes: _Optional[int] = ...) -> None: ...

class Parameter(_message.Message):
    __slots__ = ("name", "kind", "required", "default", "schema", "alias")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: ParameterKind
    required: bool
    default: str
    schema: str
    alias: str
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[ParameterKind, str]] = ..., required: bool = ..., default: _Optional[str] = ..., schema: _Optional[str] = ..., alias: _Optional[str] = ...) -> None: ...
