"""What generated clients are made of. For their imports only: nothing here is useful in code that people write."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, model_serializer
from pydantic_core import from_json

from ephaptic_grpc.client import DeclaredClient
from ephaptic_grpc.declared import declared
from ephaptic_grpc.streams import Stream
from ephaptic_grpc.sync_client import SyncDeclaredClient, SyncStream

__all__ = [
    "DeclaredClient",
    "Model",
    "SparseModel",
    "Stream",
    "SyncDeclaredClient",
    "SyncStream",
    "declared",
    "default",
]

_UNKNOWN: Final[dict[str, Any]] = {"default": "unknown"}
_NEVER_NONE: Final[dict[str, Any]] = {"default": "unknown", "none": False}


class Model(BaseModel):
    """A model that others know."""

    model_config = ConfigDict(
        populate_by_name=True, protected_namespaces=(), ser_json_bytes="base64", val_json_bytes="base64"
    )


class SparseModel(Model):
    """A model with fields whose default only the server knows: unless they are set, they aren't sent."""

    _unknowns: ClassVar[dict[str, tuple[str, bool]]] = {}
    """Those fields: their keys in JSON, and whether None is a value of theirs."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls._unknowns = {
            name: (field.serialization_alias or name, field.json_schema_extra == _UNKNOWN)
            for name, field in cls.model_fields.items()
            if field.json_schema_extra in (_UNKNOWN, _NEVER_NONE)
        }

    @model_serializer(mode="wrap")
    def _leave_out(self, serialise: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        data = serialise(self)
        if isinstance(self, SparseModel):  # a dictionary can stand in its place, and is sent as it is
            for name, (key, nullable) in self._unknowns.items():
                if getattr(self, name) is None and not (nullable and name in self.model_fields_set):
                    data.pop(key, None)
                    data.pop(name, None)
        return data


def default(json: str | None = None, *, nullable: bool = False) -> Any:
    """A default that the server has: its JSON, or None where only the server knows it.

    Args:
        json: the default.
        nullable: of one that only the server knows, whether None is also a value.
    """
    if json is None:
        return Field(default=None, json_schema_extra=_UNKNOWN if nullable else _NEVER_NONE)
    return Field(default_factory=partial(from_json, json), validate_default=True)
