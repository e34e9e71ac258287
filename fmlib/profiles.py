"""The schema of ``params/<profile>.yaml``: which models run, with which parameters, on which data.

Everything that cannot work is refused before anything runs, with file, key, value and the nearest
valid key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from fmlib import sources
from fmlib.data import SPLIT_SEED, DataError, Dataset, nearest
from fmlib.models.registry import ParameterError, build, validate
from fmlib.project import HERE, Project
from fmlib.sources import FASHION_MNIST, KINDS, SAMPLE, Source, import_file

# What NumPy's legacy generators, so scikit-learn, take.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
MOST_BYTES, MOST_VALUES = 1_000_000, 20_000  # of a file
DatasetSettings = str | dict[str, Any]  # as a profile has it


class ProfileError(ValueError):
    """A profile that cannot be used; each argument is one fault."""

    def __str__(self) -> str:
        return "; ".join(map(str, self.args))


class Limits(BaseModel):
    """What a run may take at most, so that nothing takes the machine with it.

    ``fit_hours``: wall-clock time of one fit; ``fit_memory_gb``: memory of its process in GiB, by
    default nine tenths of the machine's; ``cell_minutes``: time of a notebook's cell;
    ``output_mb``: what one cell may show.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fit_hours: PositiveFloat = 24.0
    fit_memory_gb: PositiveFloat | None = None
    cell_minutes: PositiveFloat = 60.0
    output_mb: PositiveFloat = 5.0


class Settings(BaseModel):
    """What a profile's file says.

    ``validation_fraction`` of the training images is held out, the same for all models, others for
    each seed; models in ``cuda_only`` are refused on a machine without a CUDA GPU. ``code``: files
    with a user's own models, whose paths start at the profile's folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    dataset: DatasetSettings = FASHION_MNIST
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    seeds: list[Seed] = Field(default=[9], min_length=1)
    cuda_only: list[str] = []
    code: list[str] = []
    limits: Limits = Limits()
    models: dict[str, dict[str, Any]] = Field(min_length=1)


class Profile(Settings):
    """A profile of a project, by name; ``path`` is its file, where the paths in it start."""

    name: str
    project: Project
    path: Path

    @property
    def home(self) -> Path:
        """The folder of its file."""
        return self.path.parent

    @property
    def given(self) -> str:
        """What :func:`load_profile` takes for it, whatever folder is the present one."""
        inside = self.home == self.project.params.resolve()
        return self.name if inside else str(self.path)

    @property
    def place(self) -> Path:
        """Its file, from the project's folder if it lies in that."""
        inside = self.path.is_relative_to(self.project.root)
        return self.path.relative_to(self.project.root) if inside else self.path

    @property
    def command(self) -> str:
        """The command that makes its report, in the project's folder."""
        return f"make report PROFILE={self.name if self.given == self.name else self.place}"

    @property
    def folder(self) -> Path:
        """Where everything that is derived from it lies."""
        return self.project.build / self.name

    @property
    def results(self) -> Path:
        """Where its records lie."""
        return self.project.results(self.name)

    @property
    def is_fashion(self) -> bool:
        """Whether its images are FashionMNIST's, all of them or the sample."""
        return isinstance(self.dataset, str)

    @property
    def data_title(self) -> str:
        """What to call its data set."""
        source = source_of(self.dataset)
        return (source.title or source.name) if isinstance(source, Source) else "FashionMNIST"

    @property
    def licence(self) -> str:
        """Under which licence its images are, where that is known."""
        source = source_of(self.dataset)
        return source.licence if isinstance(source, Source) else "MIT, Zalando SE"

    def data(self, say: Callable[[str], None] = print) -> Dataset:
        """Its data set, split as for its first seed; fetched first if need be."""
        fraction, seed = self.validation_fraction, self.seeds[0]
        return load_dataset(self.dataset, fraction, self.project, self.home, say, seed)

    def with_seeds(self, count: int) -> Profile:
        """The profile with so many seeds: its own, and then those that follow its greatest."""
        own = [*dict.fromkeys(self.seeds)]
        more = range(max(own) + 1, max(own) + 1 + count)
        return self.model_copy(update={"seeds": [*own, *more][:count]})


def source_of(given: DatasetSettings) -> str | Source:
    """Where a profile's data come from; raises ParameterError."""
    if isinstance(given, str):
        if given not in (FASHION_MNIST, SAMPLE):
            keys = f"settings with one of the keys {', '.join(KINDS)}"
            wanted = f"wanted {FASHION_MNIST}, {SAMPLE}, or {keys}"
            hint = nearest(given, [FASHION_MNIST, SAMPLE])
            raise ParameterError("dataset", given, f"{wanted}; {hint}")
        return given
    kind = [key for key in KINDS if key in given]
    if len(kind) != 1:
        wanted = f"wanted one of the keys {', '.join(KINDS)}"
        raise ParameterError("dataset", given, wanted)
    try:
        return validate(KINDS[kind[0]], given)
    except ParameterError as error:
        raise error.below("dataset") from error


def load_dataset(
    dataset: DatasetSettings,
    validation_fraction: float = 0.1,
    project: Project = HERE,
    home: Path = HERE.params,
    say: Callable[[str], None] = print,
    seed: int = SPLIT_SEED,
) -> Dataset:
    """A data set as a profile in ``home`` names it, split by the seed; raises DataError."""
    source = source_of(dataset)
    return sources.load_dataset(source, validation_fraction, project, home, say, seed)


class _Loader(yaml.SafeLoader):
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
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:  # a name too long, say
        raise ProfileError(f"{what} {path.stem[:40]!r}: {error.strerror}") from error
    if size is None:
        known = ", ".join(available_profiles(path.parent))
        raise ProfileError(f"no {what} {path.stem!r} in {path.parent}; there are {known}")
    if size > MOST_BYTES:
        raise ProfileError(f"{path}: {size:,} bytes; wanted at most {MOST_BYTES:,}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: not UTF-8: {error.reason}, byte {error.start}") from error
    except RecursionError as error:
        raise ProfileError(f"{path}: nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ProfileError(f"{path}: not YAML: {' '.join(str(error).split())[:300]}") from error
    _check_values(content, path)
    if not isinstance(content, dict):
        raise ProfileError(f"{path}: wanted keys and values, got {type(content).__name__}")
    return content


def _check_values(content: Any, path: Path) -> None:
    """Refuse what grows without end, as aliases of aliases do, and numbers that are none."""
    waiting, seen = [("", content)], 0
    while waiting:
        (where, value), seen = waiting.pop(), seen + 1
        if seen > MOST_VALUES:
            many = f"more than {MOST_VALUES:,} values, those of aliases wherever they stand"
            raise ProfileError(f"{path}: {many}")
        if isinstance(value, float) and not math.isfinite(value):
            key = where.removeprefix(".")
            raise ProfileError(f"{path}: {key}: wanted a number that is finite, got {value}")
        if isinstance(value, dict):
            waiting += [(f"{where}.{key}", one) for key, one in value.items()]
        elif isinstance(value, list):
            waiting += [(where, one) for one in value]


def load_profile(name: str, project: Project = HERE) -> Profile:
    """Read and check one profile, of ``params/`` or by the path of its file; ProfileError."""
    profile, faults = examine(name, project)
    if faults:
        raise ProfileError(*faults)
    return profile


def examine(name: str, project: Project = HERE) -> tuple[Profile, list[str]]:
    """A profile, and all that is wrong with it beyond its form; ProfileError of its form."""
    if "\0" in name:
        raise ProfileError(f"no profile {name!r}: no file's name has a NUL")
    given = Path(name) if name.endswith(".yaml") else project.params / f"{name}.yaml"
    path = given.resolve()
    content = read_yaml(path, "profile")
    params = project.params.resolve()
    if path.parent != params and (params / path.name).exists():
        problem = f"{params} has a profile of that name, which builds in the same folder"
        raise ProfileError(f"{path}: {problem}; rename the file")
    try:
        settings = validate(Settings, content)
    except ParameterError as error:
        raise ProfileError(*(f"{path}: {one}" for one in [error, *error.others])) from error
    faults = [f"{path}: {fault}" for fault in _faults(settings, path.parent)]
    return Profile(**vars(settings), name=path.stem, project=project, path=path), faults


def _faults(settings: Settings, home: Path) -> Iterator[Exception]:
    """What is wrong with a profile whose keys and types are right."""
    try:
        source_of(settings.dataset)
    except ParameterError as error:
        yield from [error, *error.others]
    for file in settings.code:
        try:
            import_file(home / file)
        except DataError as error:
            yield error
    for model, parameters in settings.models.items():
        try:
            _check_model(model, parameters)
        except ParameterError as error:
            yield from [error, *error.others]
    for model in settings.cuda_only:
        if model not in settings.models:
            problem = f"not one of the profile's models; {nearest(model, settings.models)}"
            yield ParameterError("cuda_only", model, problem)


def _check_model(model: str, parameters: dict[str, Any]) -> None:
    if "seed" in parameters:
        problem = "no parameter of a model; a profile lists its `seeds`"
        raise ParameterError(f"models.{model}.seed", parameters["seed"], problem)
    try:
        build(model, parameters)
    except ParameterError as error:
        if error.key == "model":  # there is none of that name
            raise ParameterError("models", model, error.problem) from error
        raise error.below("models", model) from error
