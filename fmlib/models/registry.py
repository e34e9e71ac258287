"""Every model by name. A class that ``register`` decorates is its own schema and its own entry."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, dataclass_transform, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from fmlib.data import nearest
from fmlib.models.base import STRICT, Model
from fmlib.project import SLUG

MODELS: dict[str, type[Model]] = {}
M = TypeVar("M", bound=type[Model])


class ParameterError(ValueError):
    """A parameter that cannot be used; ``key`` names it, with dots between levels.

    ``others`` are further faults of the same settings.
    """

    def __init__(self, key: str, value: Any, problem: str) -> None:
        super().__init__(f"{key}: {problem}, got {value!r}" if key else problem)
        self.key, self.value, self.problem = key, value, problem
        self.others: list[ParameterError] = []

    def below(self, *keys: str) -> ParameterError:
        """The same fault of settings that stand under these keys of others."""
        key = ".".join(filter(None, [*keys, self.key]))
        moved = ParameterError(key, self.value, self.problem)
        moved.others = [one.below(*keys) for one in self.others]
        return moved


@dataclass_transform(kw_only_default=True)
def register(
    name: str, *, title: str = "", family: str = "own", readable: bool = False
) -> Callable[[M], M]:
    """Make a model known by ``name``, its annotated class attributes its parameters.

    ``title`` is what charts call it, ``family`` the chapter that tells about it; of a ``readable``
    one a person can follow how it decides. Raises ValueError for a name that another class has, or
    that is no slug.
    """

    if not SLUG.fullmatch(name):
        wanted = "lower-case letters, digits, - and _, such as 'tiny_net'"
        raise ValueError(f"the name {name!r} of a model: wanted {wanted}")

    def registered(cls: M) -> M:
        known = MODELS.get(name)
        if known and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(
                f"the name {name!r} is taken by {known.__module__}.{known.__qualname__}"
            )
        model: Any = dataclass(config=STRICT, kw_only=True)(cls)
        model.name, model.title, model.family = name, title or name.replace("_", " "), family
        model.readable = readable
        MODELS[name] = model
        return model

    return registered


def model_class(name: str) -> type[Model]:
    """The model of that name; raises ParameterError naming the nearest one."""
    if name not in MODELS:
        raise ParameterError("model", name, f"no such model; {nearest(name, MODELS)}")
    return MODELS[name]


def build(name: str, parameters: Mapping[str, Any] | None = None) -> Model:
    """A new, unfitted model.

    Unknown keys, wrong types and values out of range raise ParameterError.
    """
    return validate(model_class(name), dict(parameters or {}))


def changed(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A copy of ``base`` with other values at dotted keys: ``{"recipe.lr": 0.1}``.

    Raises ParameterError for a key that leads into something other than settings.
    """
    parameters = dict(base)
    for key, value in change.items():
        first, _, rest = key.partition(".")
        if rest:
            inner = parameters.get(first) or {}
            if not isinstance(inner, dict):
                raise ParameterError(first, inner, f"wanted settings that {key!r} could change")
            parameters[first] = changed(inner, {rest: value})
        else:
            parameters[first] = value
    return parameters


def validate(schema: type[Any], given: Any) -> Any:
    """An instance of ``schema`` from plain values; raises ParameterError.

    Strictly, so that the text "3" is no number; but a list may be a tuple.
    """
    try:
        return TypeAdapter(schema).validate_json(json.dumps(given, default=str), strict=True)
    except ValidationError as error:
        first, *others = (_explain(fault, schema, given) for fault in error.errors())
        first.others = [one for one in others if one.key != first.key]  # members of a union
        raise first from error


def _explain(fault: Mapping[str, Any], schema: type[Any], given: Any) -> ParameterError:
    """A fault that pydantic found, in words: key, value, what was wanted, the nearest key."""
    # pydantic also names the member of a union that failed; only what the user wrote helps
    keys, value = [], given
    for part in fault["loc"]:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            continue
        keys.append(str(part))
    problem = fault["msg"][0].lower() + fault["msg"][1:]
    if fault["type"].startswith("missing"):
        return ParameterError(".".join([*keys, str(fault["loc"][-1])]), None, problem)
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        problem = f"unknown key; {nearest(keys[-1], _fields(schema, keys[:-1]))}"
    elif isinstance(fault["input"], str) and _is_number(fault["input"]):
        problem += " (YAML reads 1e-3 as text: write 0.001, without quotes)"
    return ParameterError(".".join(keys), fault["input"], problem)


def _fields(schema: Any, path: list[str]) -> list[str]:
    """Names of the fields of the schema that ``path`` leads to."""
    for part in path:
        field = schema.__pydantic_fields__.get(part)  # None for a list's index
        kinds = [field.annotation, *get_args(field.annotation)] if field else []
        schema = next((kind for kind in kinds if hasattr(kind, "__pydantic_fields__")), schema)
    return list(schema.__pydantic_fields__)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
