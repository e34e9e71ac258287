"""Profiles: what runs, and how mistakes in them are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import fmlib.models  # noqa: F401 - which makes the models known
from fmlib.profiles import Profile, ProfileError, available_profiles, load_dataset, load_profile
from fmlib.project import HERE, Project

GOOD = "description: a test\ndataset: sample\nmodels:\n  decision_tree: {max_depth: 3}\n"


@pytest.fixture
def profile(tmp_path) -> Callable[[str], Profile]:
    def load(text: str, name: str = "mine") -> Profile:
        project = Project(tmp_path)
        project.params.mkdir(exist_ok=True)
        (project.params / f"{name}.yaml").write_text(text)
        return load_profile(name, project)

    return load


# --- Good profiles ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", available_profiles(HERE.params))
def test_every_profile_of_the_project_is_valid(name):
    profile = load_profile(name)
    assert profile.name == name and profile.description and profile.models


def test_the_project_has_the_profiles_that_make_offers():
    assert {"smoke", "cpu", "gpu", "original"} <= set(available_profiles(HERE.params))


def test_the_smoke_profile_needs_no_download_and_the_original_holds_out_a_fifth():
    assert load_profile("smoke").dataset == "sample"
    assert load_profile("original").validation_fraction == 0.2


def test_what_a_profile_leaves_out_has_a_default(profile):
    one = profile("description: a test\nmodels: {mlp: {}}\n")
    assert (one.name, one.dataset, one.validation_fraction, one.seeds) == (
        "mine",
        "fashion_mnist",
        0.1,
        [9],
    )


def test_anchors_and_merges_of_yaml_work(profile):
    one = profile(
        "description: a test\nmodels:\n  mlp:\n    recipe: &slow {epochs: 9, lr: 0.001}\n"
        "  cnn:\n    recipe: {<<: *slow, lr: 0.01}\n"
    )
    assert one.models["cnn"]["recipe"] == {"epochs": 9, "lr": 0.01}


# --- Mistakes ---------------------------------------------------------------------------------


def model(parameters: str, name: str = "mlp") -> str:
    return f"description: a test\nmodels:\n  {name}: {parameters}\n"


MISTAKES = {
    "unknown key": (
        GOOD + "dateset: sample\n",
        "dateset: unknown key; did you mean 'dataset'?, got 'sample'",
    ),
    "unknown key like no other": (GOOD + "zzz: 1\n", "zzz: unknown key; known are "),
    "key left out": (
        "dataset: sample\nmodels: {mlp: {}}\n",
        "description: field required, got None",
    ),
    "wrong data set": (
        GOOD.replace("sample", "fashion"),
        "dataset: wanted fashion_mnist, sample, or settings with one of the keys",
    ),
    "fraction above 1": (
        GOOD + "validation_fraction: 1.5\n",
        "validation_fraction: input should be less than 1, got 1.5",
    ),
    "fraction of nothing": (
        GOOD + "validation_fraction: 0\n",
        "validation_fraction: input should be greater than 0, got 0",
    ),
    "fraction as text": (
        GOOD + "validation_fraction: 1e-1\n",
        "YAML reads 1e-3 as text: write 0.001",
    ),
    "no seeds": (GOOD + "seeds: []\n", "seeds: list should have at least 1 item"),
    "negative seed": (
        GOOD + "seeds: [1, -2]\n",
        "seeds.1: input should be greater than or equal to 0, got -2",
    ),
    "one seed": (GOOD + "seeds: 9\n", "seeds: input should be a valid"),
    "no models": (
        "description: a test\nmodels: {}\n",
        "models: dictionary should have at least 1 item",
    ),
    "models in a list": ("description: a test\nmodels: [mlp]\n", "models: input should be"),
    "unknown model": (
        model("{}", "desicion_tree"),
        "models: no such model; did you mean 'decision_tree'?",
    ),
    "model without a colon's worth": (model(""), "models.mlp: input should be"),
    "unknown parameter": (
        model("{hiden_sizes: [3]}"),
        "models.mlp.hiden_sizes: unknown key; did you mean 'hidden_sizes'?",
    ),
    "parameter of another model": (model("{max_depth: 3}"), "models.mlp.max_depth: unknown key; "),
    "a seed of its own": (
        model("{seed: 3}"),
        "models.mlp.seed: no parameter of a model; a profile lists",
    ),
    "unknown key of a recipe": (
        model("{recipe: {epoch: 3}}"),
        "models.mlp.recipe.epoch: unknown key; did you mean 'epochs'?",
    ),
    "unknown key of an augmentation": (
        model("{recipe: {augmentation: {crop_pad: 2}}}"),
        "models.mlp.recipe.augmentation.crop_pad: unknown key; did you mean 'crop_padding'?, got 2",
    ),
    "wrong type": (
        model("{recipe: {epochs: many}}"),
        "models.mlp.recipe.epochs: input should be a valid integer, got 'many'",
    ),
    "quoted number": (
        model('{recipe: {epochs: "3"}}'),
        "models.mlp.recipe.epochs: input should be a valid integer",
    ),
    "half an epoch": (model("{recipe: {epochs: 2.5}}"), "models.mlp.recipe.epochs: "),
    "yes for a number": (
        model("{recipe: {epochs: yes}}"),
        "recipe.epochs: input should be a valid integer, got True",
    ),
    "out of range": (
        model("{recipe: {lr: -0.1}}"),
        "models.mlp.recipe.lr: input should be greater than 0, got -0.1",
    ),
    "not a number": (
        model("{recipe: {lr: .nan}}"),
        "models.mlp.recipe.lr: wanted a number that is finite, got nan",
    ),
    "1e-3": (
        model("{recipe: {lr: 1e-3}}"),
        "models.mlp.recipe.lr: input should be a valid number (YAML reads 1e-3 as text: "
        "write 0.001, without quotes), got '1e-3'",
    ),
    "rates that do not match layers": (
        model("{dropout: [0.1]}"),
        "models.mlp: value error, dropout: wanted one probability",
    ),
    "item of a list": (
        model("{hidden_sizes: [8, -1]}"),
        "models.mlp.hidden_sizes.1: input should be greater than 0, got -1",
    ),
    "unknown model for CUDA alone": (
        GOOD + "cuda_only: [decisio_tree]\n",
        "cuda_only: not one of the profile's models; ",
    ),
    "model named twice": (
        GOOD + "  mlp: {}\n  decision_tree: {}\n",
        "not YAML: the key 'decision_tree' stands twice",
    ),
    "key named twice": (
        model("{recipe: {lr: 0.1, epochs: 3, lr: 0.2}}"),
        "not YAML: the key 'lr' stands twice",
    ),
    "open bracket": (model("{hidden_sizes: [3"), "not YAML: "),
    "tab": ("description: a test\n\tmodels: {}\n", "not YAML: "),
    "empty file": ("", "wanted keys and values, got NoneType"),
    "only a comment": ("# nothing yet\n", "wanted keys and values, got NoneType"),
    "a list": ("- mlp\n", "wanted keys and values, got list"),
}


@pytest.mark.parametrize("name", list(MISTAKES))
def test_a_mistake_is_told_with_file_key_value_and_nearest_key(profile, tmp_path, name):
    text, says = MISTAKES[name]
    with pytest.raises(ProfileError) as caught:
        profile(text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'params' / 'mine.yaml'}: ") and says in message
    assert "\n" not in message and "pydantic" not in message


def test_a_profile_that_is_not_there_is_told_with_those_that_are(profile, tmp_path):
    profile(GOOD, "one")
    profile(GOOD, "two")
    with pytest.raises(ProfileError, match=r"no profile 'three' in .*; there are one, two"):
        load_profile("three", Project(tmp_path))


def test_profile_files_are_found_by_their_ending(tmp_path):
    for name in ("b.yaml", "a.yaml", "notes.txt"):
        (tmp_path / name).touch()
    assert available_profiles(Path(tmp_path)) == ["a", "b"]


def test_a_profile_knows_its_data_and_where_its_records_lie(profile, tmp_path, sample):
    one = profile(GOOD + "validation_fraction: 0.2\n")
    assert len(one.data().validation_labels) == 400
    assert one.data().data_sha256 == load_dataset("sample").data_sha256 == sample.data_sha256
    assert one.folder == tmp_path / "build" / "mine"
    assert one.results == tmp_path / "build" / "mine" / "results"


# --- Files that are no profile, however they are written ---------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 8)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
HEAD = "description: d\ndataset: sample\nmodels: "
NO_PROFILES = {
    "a bomb of aliases": (BOMB.encode(), "more than 20,000 values"),
    "nested deeply": (b"[" * 50_000, "nested too deeply|not YAML"),
    "ten megabytes": (b"# " + b"x" * 10_000_000, "wanted at most 1,000,000"),
    "infinite": (f"{HEAD}{{mlp: {{recipe: {{lr: .inf}}}}}}".encode(), r"lr: .* finite, got inf"),
    "no number": (f"{HEAD}{{mlp: {{recipe: {{lr: .nan}}}}}}".encode(), "finite, got nan"),
    "endless": (f"{HEAD}{{mlp: {{recipe: {{epochs: {10**12}}}}}}}".encode(), "less than or equal"),
    "Latin-1": ("description: Schön\n".encode("latin-1"), "not UTF-8"),
    "UTF-16": ("description: d\n".encode("utf-16"), "not UTF-8"),
    "a list": (b"- a\n- b\n", "wanted keys and values"),
    "nothing": (b"", "wanted keys and values"),
    "a tag that would run code": (b"a: !!python/object/apply:os.system ['true']", "not YAML"),
}


@pytest.mark.parametrize("name", NO_PROFILES)
def test_what_is_no_profile_is_refused_in_a_line_and_at_once(name, tmp_path):
    content, says = NO_PROFILES[name]
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=says) as caught:
        load_profile(str(path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".yaml", "a/b/c", "../nowhere", "\0.yaml"])
def test_a_name_that_can_be_no_file_is_told_in_a_line(name):
    with pytest.raises((ProfileError, ValueError)) as caught:
        load_profile(name)
    assert "\n" not in str(caught.value)


def test_a_profile_reached_by_another_path_builds_in_its_own_folder():
    profile = load_profile(str(HERE.params / ".." / "params" / "smoke.yaml"))
    assert profile.folder == HERE.build / "smoke" == load_profile("../params/smoke").folder


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


def nested(inner: st.SearchStrategy) -> st.SearchStrategy:
    keys = st.text(max_size=8)
    return st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)


@given(content=st.recursive(PLAIN, nested, max_leaves=12))
def test_whatever_a_profile_has_it_is_loaded_or_refused_in_words(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "odd.yaml"
    path.write_text(yaml.safe_dump({"description": "d", "models": content}), encoding="utf-8")
    try:
        load_profile(str(path))
    except ProfileError as error:
        assert str(error)
