"""The schema of ``params/<profile>.yaml``: which models run, with which parameters, on which data.

Everything that cannot work is refused before anything runs, with file, key, value and the nearest
valid key.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from fmlib.data import Dataset, load_sample
from fmlib.fetch import load_fashion_mnist
from fmlib.models.registry import ParameterError, build, nearest, validate
from fmlib.project import HERE, Project

# What NumPy's legacy generators, so scikit-learn, take.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
DatasetName = Literal["fashion_mnist", "sample"]


class ProfileError(ValueError):
    """A profile that cannot be used."""


class Settings(BaseModel):
    """What a profile's file says.

    ``validation_fraction`` of the training images is held out, the same ones for every model and
    seed; models in ``cuda_only`` are refused on a machine without a CUDA GPU.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    dataset: DatasetName = "fashion_mnist"
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    seeds: list[Seed] = Field(default=[9], min_length=1)
    cuda_only: list[str] = []
    models: dict[str, dict[str, Any]] = Field(min_length=1)


class Profile(Settings):
    """A profile of a project, by name."""

    name: str
    project: Project

    @property
    def folder(self) -> Path:
        """Where everything that is derived from it lies."""
        return self.project.build / self.name

    @property
    def results(self) -> Path:
        """Where its records lie."""
        return self.project.results(self.name)

    def data(self, say: Callable[[str], None] = print) -> Dataset:
        """Its data set, split; fetched first if need be."""
        return load_dataset(self.dataset, self.validation_fraction, self.project, say)


def load_dataset(
    name: str,
    validation_fraction: float = 0.1,
    project: Project = HERE,
    say: Callable[[str], None] = print,
) -> Dataset:
    """A data set by the name that profiles have for it."""
    if name == "sample":
        return load_sample(validation_fraction)
    return load_fashion_mnist(project.data, validation_fraction, say)


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML silently keeps the last of two equal keys; a model named twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        own = [key for key, _ in node.value if not key.tag.endswith(":merge")]
        keys = [self.construct_object(key, deep=deep) for key in own]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            problem = f"the key {twice!r} stands twice"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return super().construct_mapping(node, deep=deep)


def available_profiles(folder: Path) -> list[str]:
    """Names of the profiles, or studies, in ``folder``."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The keys and values of a file, ``what`` being "profile" or "study"; raises ProfileError."""
    if not path.is_file():
        known = ", ".join(available_profiles(path.parent))
        raise ProfileError(f"no {what} {path.stem!r} in {path.parent}; there are {known}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ProfileError(f"{path}: wanted keys and values, got {type(content).__name__}")
    return content


def load_profile(name: str, project: Project = HERE) -> Profile:
    """Read and check one profile; raises ProfileError."""
    path = project.params / f"{name}.yaml"
    content = read_yaml(path, "profile")
    try:
        settings = validate(Settings, content)
        for model, parameters in settings.models.items():
            _check_model(model, parameters)
        for model in settings.cuda_only:
            if model not in settings.models:
                problem = f"not one of the profile's models; {nearest(model, settings.models)}"
                raise ParameterError("cuda_only", model, problem)
    except ParameterError as error:
        raise ProfileError(f"{path}: {error}") from error
    return Profile(**vars(settings), name=name, project=project)


def _check_model(model: str, parameters: dict[str, Any]) -> None:
    if "seed" in parameters:
        problem = "no parameter of a model; a profile lists its `seeds`"
        raise ParameterError(f"models.{model}.seed", parameters["seed"], problem)
    try:
        build(model, parameters)
    except ParameterError as error:
        path = ["models"] if error.key == "model" else ["models", model, error.key]
        raise ParameterError(".".join(filter(None, path)), error.value, error.problem) from error
