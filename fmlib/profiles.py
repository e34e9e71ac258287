"""The schema of ``params/<profile>.yaml``: which models run, with which parameters, on which data.

Everything that cannot work is refused before anything runs, with file, key, value and the nearest valid key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fmlib.data import PROJECT_ROOT, DatasetName
from fmlib.models.registry import ParameterError, build, entry, explain, nearest, validate

PARAMS_DIR = PROJECT_ROOT / "params"
STUDIES_DIR, TABLES_DIR = PARAMS_DIR / "studies", PROJECT_ROOT / "docs" / "studies"  # what is tried, and what it gave


class ProfileError(ValueError):
    """A profile that cannot be used."""


Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy's legacy generators, and so scikit-learn, take


class Profile(BaseModel):
    """One profile. ``validation_fraction`` of the training images is held out, the same ones for every model and seed;
    models in ``cuda_only`` are refused on a machine without a CUDA GPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str
    dataset: DatasetName = "full"
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    seeds: list[Seed] = Field(default=[9], min_length=1)
    cuda_only: list[str] = []
    models: dict[str, dict[str, Any]] = Field(min_length=1)


@dataclass(frozen=True)
class Job:
    """One model with one seed: plain parameters in, plain files out."""

    profile: str
    dataset: DatasetName
    validation_fraction: float
    model: str
    seed: int
    parameters: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.model}-seed-{self.seed}"

    @property
    def notebook(self) -> str:
        return entry(self.model).family

    @property
    def display_name(self) -> str:
        return entry(self.model).display_name


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML silently keeps the last of two equal keys; a profile that names a model twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value if not key.tag.endswith(":merge")]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.MarkedYAMLError(problem=f"the key {twice!r} stands twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep=deep)


def available_profiles(folder: Path = PARAMS_DIR) -> list[str]:
    """Names of the profiles in ``folder``."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The keys and values of a file, ``what`` being "profile" or "study"; raises ProfileError."""
    if not path.is_file():
        raise ProfileError(f"no {what} {path.stem!r} in {path.parent}; there are {', '.join(available_profiles(path.parent))}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ProfileError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ProfileError(f"{path}: wanted keys and values, got {type(content).__name__}")
    return content


def load_profile(name: str, folder: Path = PARAMS_DIR) -> Profile:
    """Read and check one profile; raises ProfileError."""
    path = folder / f"{name}.yaml"
    content = read_yaml(path, "profile")
    try:
        profile = validate(Profile, content | {"name": name})
        for model, parameters in profile.models.items():
            _check_model(model, parameters)
        for model in profile.cuda_only:
            if model not in profile.models:
                raise ParameterError("cuda_only", model, f"not one of the profile's models; {nearest(model, profile.models)}")
    except ValidationError as error:
        raise ProfileError(f"{path}: {explain(error, Profile, content)}") from error
    except ParameterError as error:
        raise ProfileError(f"{path}: {error}") from error
    return profile


def _check_model(model: str, parameters: Mapping[str, Any]) -> None:
    try:
        build(model, parameters)
    except ParameterError as error:
        key = "models" if error.key == "model" else ".".join(filter(None, ("models", model, error.key)))
        raise ParameterError(key, error.value, error.problem) from error


def jobs(profile: Profile) -> list[Job]:
    """The profile's jobs: all models with the first seed, then with the next, in the profile's order of models."""
    return [
        Job(profile.name, profile.dataset, profile.validation_fraction, model, seed, parameters)
        for seed in dict.fromkeys(profile.seeds)
        for model, parameters in profile.models.items()
    ]
