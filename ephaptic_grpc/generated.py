"""What generated clients are made of. For their imports only: nothing here is useful in code that people write."""

from functools import partial
from typing import Any, ClassVar, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json

from ephaptic_grpc.client import DeclaredClient, Stream
from ephaptic_grpc.declared import declared
from ephaptic_grpc.sync_client import SyncDeclaredClient, SyncStream

__all__ = ["DeclaredClient", "Model", "Stream", "SyncDeclaredClient", "SyncStream", "declared", "default"]

_UNKNOWN: Final[dict[str, Any]] = {"default": "unknown"}


class Model(BaseModel):
    """A model that others know: what isn't set is left out when it is sent, for the server to fill in."""

    model_config = ConfigDict(
        populate_by_name=True, protected_namespaces=(), ser_json_bytes="base64", val_json_bytes="base64"
    )

    constants: ClassVar[frozenset[str]] = frozenset()
    """Fields with one possible value. They are sent all the same: they may tell the members of a union apart."""

    unknowns: ClassVar[frozenset[str]] = frozenset()
    """Fields whose default only the server knows. None stands for it, and isn't sent."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        fields = cls.model_fields.items()
        cls.constants = frozenset(name for name, field in fields if _is_constant(field.annotation))
        cls.unknowns = frozenset(name for name, field in fields if field.json_schema_extra == _UNKNOWN)

    def model_post_init(self, _: Any, /) -> None:
        fields_set = self.__pydantic_fields_set__
        fields_set.update(self.constants)
        fields_set.difference_update(name for name in self.unknowns if getattr(self, name) is None)


def default(json: str | None = None) -> Any:
    """A default that the server has: its JSON, or None where only the server knows it."""
    if json is None:
        return Field(default=None, json_schema_extra=_UNKNOWN)
    return Field(default_factory=partial(from_json, json), validate_default=True)


def _is_constant(annotation: object) -> bool:
    return get_origin(annotation) is Literal and len(get_args(annotation)) == 1
