"""Profiles: what runs, and how mistakes in them are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fmlib.profiles import Job, Profile, ProfileError, available_profiles, jobs, load_profile

GOOD = "description: a test\ndataset: sample\nmodels:\n  decision_tree: {max_depth: 3}\n"


@pytest.fixture
def profile(tmp_path) -> Callable[[str], Profile]:
    def load(text: str, name: str = "mine") -> Profile:
        (tmp_path / f"{name}.yaml").write_text(text)
        return load_profile(name, tmp_path)
    return load


# --- Good profiles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", available_profiles())
def test_every_profile_of_the_project_is_valid(name):
    profile = load_profile(name)
    assert profile.name == name and profile.description and jobs(profile)


def test_the_project_has_the_profiles_that_make_offers():
    assert {"smoke", "cpu", "gpu", "original"} <= set(available_profiles())


def test_the_smoke_profile_needs_no_download_and_the_original_holds_out_a_fifth():
    assert load_profile("smoke").dataset == "sample"
    assert load_profile("original").validation_fraction == 0.2


def test_what_a_profile_leaves_out_has_a_default(profile):
    one = profile("description: a test\nmodels: {mlp: {}}\n")
    assert (one.name, one.dataset, one.validation_fraction, one.seeds) == ("mine", "full", 0.1, [9])


def test_anchors_and_merges_of_yaml_work(profile):
    one = profile(
        "description: a test\nmodels:\n  mlp:\n    recipe: &slow {epochs: 9, lr: 0.001}\n"
        "  cnn:\n    recipe: {<<: *slow, lr: 0.01}\n"
    )
    assert one.models["cnn"]["recipe"] == {"epochs": 9, "lr": 0.01}


def test_jobs_run_model_after_model_with_one_seed_then_with_the_next(profile):
    text = "description: a test\nvalidation_fraction: 0.2\nseeds: [3, 1, 3]\nmodels: {svm: {C: 2.0}, cnn: {}, mlp: {}}\n"
    made = jobs(profile(text))
    order = ["svm", "cnn", "mlp"]
    assert [(job.seed, job.model) for job in made] == [(seed, model) for seed in (3, 1) for model in order]
    assert made[0] == Job("mine", "full", 0.2, "svm", 3, {"C": 2.0})
    assert (made[0].name, made[0].notebook, made[0].display_name) == ("svm-seed-3", "01_classical", "SVM")


# --- Mistakes -------------------------------------------------------------------------------------------------------------


def model(parameters: str, name: str = "mlp") -> str:
    return f"description: a test\nmodels:\n  {name}: {parameters}\n"


MISTAKES = {
    "unknown key": (GOOD + "dateset: full\n", "dateset: unknown key; did you mean 'dataset'?, got 'full'"),
    "unknown key like no other": (GOOD + "zzz: 1\n", "zzz: unknown key; known are "),
    "key left out": ("dataset: sample\nmodels: {mlp: {}}\n", "description: field required"),
    "wrong data set": (GOOD.replace("sample", "fashion"), "dataset: input should be 'sample' or 'full', got 'fashion'"),
    "fraction above 1": (GOOD + "validation_fraction: 1.5\n", "validation_fraction: input should be less than 1, got 1.5"),
    "fraction of nothing": (GOOD + "validation_fraction: 0\n", "validation_fraction: input should be greater than 0, got 0"),
    "fraction as text": (GOOD + "validation_fraction: 1e-1\n", "YAML reads 1e-3 as text: write 0.001"),
    "no seeds": (GOOD + "seeds: []\n", "seeds: list should have at least 1 item"),
    "negative seed": (GOOD + "seeds: [1, -2]\n", "seeds.1: input should be greater than or equal to 0, got -2"),
    "one seed": (GOOD + "seeds: 9\n", "seeds: input should be a valid"),
    "no models": ("description: a test\nmodels: {}\n", "models: dictionary should have at least 1 item"),
    "models in a list": ("description: a test\nmodels: [mlp]\n", "models: input should be"),
    "unknown model": (model("{}", "desicion_tree"), "models: no such model in the registry; did you mean 'decision_tree'?"),
    "model without a colon's worth": (model(""), "models.mlp: input should be"),
    "unknown parameter": (model("{hiden_sizes: [3]}"), "models.mlp.hiden_sizes: unknown key; did you mean 'hidden_sizes'?"),
    "parameter of another model": (model("{max_depth: 3}"), "models.mlp.max_depth: unknown key; "),
    "unknown key of a recipe": (model("{recipe: {epoch: 3}}"), "models.mlp.recipe.epoch: unknown key; did you mean 'epochs'?"),
    "unknown key of an augmentation": (
        model("{recipe: {augmentation: {crop_pad: 2}}}"),
        "models.mlp.recipe.augmentation.crop_pad: unknown key; did you mean 'crop_padding'?, got 2",
    ),
    "wrong type": (model("{recipe: {epochs: many}}"), "models.mlp.recipe.epochs: input should be a valid integer, got 'many'"),
    "quoted number": (model('{recipe: {epochs: "3"}}'), "models.mlp.recipe.epochs: input should be a valid integer"),
    "half an epoch": (model("{recipe: {epochs: 2.5}}"), "models.mlp.recipe.epochs: "),
    "yes for a number": (model("{recipe: {epochs: yes}}"), "recipe.epochs: input should be a valid integer, got True"),
    "out of range": (model("{recipe: {lr: -0.1}}"), "models.mlp.recipe.lr: input should be greater than 0, got -0.1"),
    "not a number": (model("{recipe: {lr: .nan}}"), "models.mlp.recipe.lr: input should be greater than 0, got nan"),
    "1e-3": (model("{recipe: {lr: 1e-3}}"), "models.mlp.recipe.lr: input should be a valid number (YAML reads 1e-3 as text: "
             "write 0.001, without quotes), got '1e-3'"),
    "rates that do not match layers": (model("{dropout: [0.1]}"), "models.mlp: value error, dropout: wanted one probability"),
    "item of a list": (model("{hidden_sizes: [8, -1]}"), "models.mlp.hidden_sizes.1: input should be greater than 0, got -1"),
    "unknown model for CUDA alone": (GOOD + "cuda_only: [decisio_tree]\n", "cuda_only: not one of the profile's models; "),
    "model named twice": (GOOD + "  mlp: {}\n  decision_tree: {}\n", "not YAML: the key 'decision_tree' stands twice"),
    "key named twice": (model("{recipe: {lr: 0.1, epochs: 3, lr: 0.2}}"), "not YAML: the key 'lr' stands twice"),
    "open bracket": (model("{hidden_sizes: [3"), "not YAML: "),
    "tab": ("description: a test\n\tmodels: {}\n", "not YAML: "),
    "empty file": ("", "wanted keys and values, got NoneType"),
    "only a comment": ("# nothing yet\n", "wanted keys and values, got NoneType"),
    "a list": ("- mlp\n", "wanted keys and values, got list"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(MISTAKES))
def test_a_mistake_is_told_with_file_key_value_and_nearest_key(profile, tmp_path, name):
    text, says = MISTAKES[name]
    with pytest.raises(ProfileError) as caught:
        profile(text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'mine.yaml'}: ") and says in message
    assert "\n" not in message and "pydantic" not in message


def test_a_profile_that_is_not_there_is_told_with_those_that_are(profile, tmp_path):
    profile(GOOD, "one")
    profile(GOOD, "two")
    with pytest.raises(ProfileError, match=r"no profile 'three' in .*; there are one, two"):
        load_profile("three", tmp_path)


def test_the_command_line_tells_a_mistake_in_one_line_and_fails(monkeypatch, capsys):
    from fmlib import __main__ as command_line

    monkeypatch.setattr("sys.argv", ["fmlib", "report", "--profile", "smok"])
    monkeypatch.setattr("sys.stdout.reconfigure", lambda **_: None, raising=False)
    assert command_line.main() == 2
    assert capsys.readouterr().err.startswith("error: no profile 'smok' in ")


def test_profile_files_are_found_by_their_ending(tmp_path):
    for name in ("b.yaml", "a.yaml", "notes.txt"):
        (tmp_path / name).touch()
    assert available_profiles(Path(tmp_path)) == ["a", "b"]
