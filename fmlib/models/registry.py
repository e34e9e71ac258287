"""Every model by name: how it is called, which notebook tells its story, how it is built.

To add a model, write one class or builder, add one line to ``REGISTRY``, and one block to a profile.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError, create_model

from fmlib.models.base import Classifier
from fmlib.models.classical import SVM, DecisionTree, HogSVM, RandomForest, XGBoost
from fmlib.models.cnn import CNN, StudyCNN
from fmlib.models.mlp import MLP
from fmlib.models.neural import NetworkSpec, TorchClassifier
from fmlib.models.transfer import TransferClassifier, TransferSpec
from fmlib.training import Recipe


class ParameterError(ValueError):
    """A parameter that a model does not know or cannot use; ``key`` names it, with dots between levels."""

    def __init__(self, key: str, value: Any, problem: str) -> None:
        super().__init__(f"{key}: {problem}, got {value!r}" if key else problem)
        self.key, self.value, self.problem = key, value, problem


@dataclass(frozen=True)
class Entry:
    """One model: its name in charts, its family (``notebooks/<family>.py``), its parameters' schema, its class, its builder."""

    display_name: str
    family: str
    schema: type[Any]
    classifier: type[Classifier]
    make: Callable[[Any, int], Classifier]


def classical(display_name: str, schema: type[Any], family: str = "01_classical") -> Entry:
    """An entry for a classifier that is a dataclass of its parameters, ``seed`` among them."""
    if "seed" not in getattr(schema, "__pydantic_fields__", {}):
        raise TypeError(f"{schema.__name__}: wanted a pydantic dataclass with a field `seed: int`, which a job sets")
    return Entry(display_name, family, schema, schema, lambda model, seed: replace(model, seed=seed))


def neural(
    display_name: str, family: str, network: type[NetworkSpec], classifier: type[TorchClassifier] = TorchClassifier,
    **fixed: str,
) -> Entry:  # fmt: skip
    """An entry for a network: its parameters are those of the network, but for the ``fixed`` ones, and its ``recipe``."""
    own: dict[str, Any] = {name: (Literal[value], value) for name, value in fixed.items()}
    schema = create_model(
        f"{network.__name__}Parameters", __base__=network, __module__=network.__module__, recipe=(Recipe, Recipe()), **own
    )

    def make(parameters: Any, seed: int) -> Classifier:
        return classifier(network(**parameters.model_dump(exclude={"recipe"})), parameters.recipe, seed)

    return Entry(display_name, family, schema, classifier, make)


def transfer(display_name: str, architecture: str) -> Entry:
    """An entry for a network pre-trained on ImageNet."""
    return neural(display_name, "04_transfer", TransferSpec, TransferClassifier, architecture=architecture)


REGISTRY: dict[str, Entry] = {
    "decision_tree": classical("Decision Tree", DecisionTree),
    "random_forest": classical("Random Forest", RandomForest),
    "svm": classical("SVM", SVM),
    "svm_hog": classical("SVM on HOG", HogSVM),
    "xgboost": classical("XGBoost", XGBoost),
    "mlp": neural("MLP", "02_mlp", MLP),
    "cnn": neural("Custom CNN", "03_cnn", CNN),
    "study_cnn": neural("Study's CNN", "03_cnn", StudyCNN),
    "vgg16": transfer("VGG16", "vgg16"),
    "resnet34": transfer("ResNet34", "resnet34"),
    "mobilenet_v3_small": transfer("MobileNetV3-small", "mobilenet_v3_small"),
    "efficientnet_lite0": transfer("EfficientNet-Lite0", "efficientnet_lite0"),
    "mobilenet_v3_as_run": transfer("the study's \"MobileNetV3\" (a ResNet34)", "resnet34"),
}


def nearest(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """A hint for a name that is not known: the nearest known one, or all of them."""
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"


def entry(name: str) -> Entry:
    """The registry's entry of that name; raises ParameterError naming the nearest one."""
    if name not in REGISTRY:
        raise ParameterError("model", name, f"no such model in the registry; {nearest(name, REGISTRY)}")
    return REGISTRY[name]


def build(name: str, parameters: Mapping[str, Any] | None = None, seed: int = 9) -> Classifier:
    """A new, unfitted classifier; unknown keys, wrong types and values out of range raise ParameterError."""
    one = entry(name)
    if "seed" in (parameters or {}):
        raise ParameterError("seed", parameters["seed"], "no parameter of a model; a profile lists its `seeds`")
    try:
        return one.make(validate(one.schema, parameters or {}), seed)
    except ValidationError as error:
        raise explain(error, one.schema, parameters or {}) from error


def validate(schema: type[Any], given: Any) -> Any:
    """An instance of ``schema`` from plain values; strictly, so that the text "3" is no number, but a list may be a tuple."""
    return TypeAdapter(schema).validate_json(json.dumps(given, default=str), strict=True)


def explain(error: ValidationError, schema: type[Any], given: Any) -> ParameterError:
    """The first fault pydantic found, in words: key, value, what was wanted, the nearest valid key."""
    fault = error.errors()[0]
    path = [str(part) for part in fault["loc"] if not str(part).startswith(("literal[", "tuple[", "function-"))]
    # pydantic names the member of a union that failed; only what the user wrote helps the user
    keys = [part for i, part in enumerate(path) if _reaches(given, path[: i + 1])]
    problem = fault["msg"][0].lower() + fault["msg"][1:]
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        problem = f"unknown key; {nearest(path[-1], _fields(schema, path[:-1]))}"
    elif isinstance(fault["input"], str) and _is_number(fault["input"]):
        problem += " (YAML reads 1e-3 as text: write 0.001, without quotes)"
    return ParameterError(".".join(keys or path), fault["input"], problem)


def _reaches(given: Any, path: list[str]) -> bool:
    for part in path:
        if isinstance(given, Mapping) and part in given:
            given = given[part]
        elif isinstance(given, (list, tuple)) and part.isdigit() and int(part) < len(given):
            given = given[int(part)]
        else:
            return False
    return True


def _fields(schema: Any, path: list[str]) -> list[str]:
    """Names of the fields of the schema that ``path`` leads to."""
    for part in path:
        schema = getattr(schema, "__pydantic_fields__", {}).get(part, schema)
        schema = getattr(schema, "annotation", schema)
    return list(getattr(schema, "__pydantic_fields__", {}))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
