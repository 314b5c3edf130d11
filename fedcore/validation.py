"""Values from files, checked: a wrong one is answered in one line that names the field and what would be right."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fedcore.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


def one_of(value: str, known: Mapping[str, object]) -> str:
    """`value`, which must be one of the `known` names.

    Raises:
        ValueError: it is none of them; the nearest one is suggested.
    """
    if value not in known:
        near = difflib.get_close_matches(value, known, 1)
        raise ValueError(f"'{value}' is not one of {', '.join(sorted(known))}" + (f"; did you mean '{near[0]}'?" if near else ""))
    return value


def validated(model: type[M], values: Mapping[str, Any], source: str) -> M:
    """`model` from `values`, or a ConfigError of one line; unknown keys get the nearest right name suggested.

    Where the model hides its input in errors, nothing that was written is quoted but a misspelt key.
    """
    hidden = model.model_config.get("hide_input_in_errors", False)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = max(error.errors(), key=_fit)
        where = ".".join(_path(first["loc"])) or "the file"
        if first["type"] == "extra_forbidden":
            allowed = _fields_at(model, first["loc"][:-1])
            near = difflib.get_close_matches(str(first["loc"][-1]), allowed, 1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(sorted(allowed))}"
            named = "" if hidden and not near else f" '{where}'"
            raise ConfigError(f"unknown key{named}; {hint}", at=source) from None
        message = str(first["msg"]).removeprefix("Value error, ")
        given = first.get("input")
        shown = "" if hidden or isinstance(given, Mapping) or first["type"] == "value_error" else f" (got {given!r})"
        raise ConfigError(f"{where}: {message}{shown}", at=source) from None


def _fit(error: Any) -> tuple[bool, int]:
    """How well an error fits what was written: where a field allows several types, that of the type which was not used says least."""
    return not error["type"].endswith(("_type", "_parsing")), len(error["loc"])


def _path(loc: tuple[int | str, ...]) -> list[str]:
    """The field's place without pydantic's names for the alternatives of a type."""
    return [str(part) for part in loc if not str(part).startswith(("constrained-", "literal[", "dict["))]


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys that are known at a place in the configuration."""
    here: Any = model
    for part in path:
        field = here.model_fields.get(str(part)) if isinstance(here, type) and issubclass(here, BaseModel) else None
        if field is None:
            return []
        here = field.annotation
    return list(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []
