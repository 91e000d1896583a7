"""The one inspection schema as an Arrow schema, so that Parquet holds the same fields as JSON."""

import types
import typing
from enum import Enum
from typing import Any, get_args, get_origin

import pyarrow
from pydantic import BaseModel

from blemish.inspection.convert import InspectionRecord

BUNDLE = "bundle"  # the further column of distributed results: SHA-256 of the bundle's file


def inspection_schema() -> pyarrow.Schema:
    """The fields of `InspectionRecord` after the column `bundle`."""
    return pyarrow.schema([(BUNDLE, pyarrow.string()), *_fields(InspectionRecord)])


def _fields(model: type[BaseModel]) -> list[tuple[str, Any]]:
    return [(name, _arrow_type(field.annotation)) for name, field in model.model_fields.items()]


def _arrow_type(annotation: Any) -> Any:
    origin, inner = get_origin(annotation), [own for own in get_args(annotation) if own not in (type(None), ...)]
    if origin in (types.UnionType, typing.Union) and len(inner) == 1:
        return _arrow_type(inner[0])
    if origin is list or (origin is tuple and len(set(inner)) == 1):
        return pyarrow.list_(_arrow_type(inner[0]))
    if origin is dict:
        return pyarrow.map_(_arrow_type(inner[0]), _arrow_type(inner[1]))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return pyarrow.struct(_fields(annotation))
    if isinstance(annotation, type) and issubclass(annotation, str | Enum):
        return pyarrow.string()
    plain = {bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64()}
    if annotation not in plain:
        raise TypeError(f"no Arrow type for {annotation}")
    return plain[annotation]
