"""What a chapter shows of its model, and what the appendix looks up."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import synthetic
import torch
from torch import nn

from fmlib.fitting import FitError, fit_or_load, job_of
from fmlib.models.registry import MODELS, ParameterError, build
from fmlib.models.transfer import Backbone
from fmlib.profiles import Profile, load_profile
from fmlib.project import Project
from fmlib.results import MANIFEST_FILE, PREDICTIONS_FILE, RESULT_FILE, ClassScore, Epoch, Weights
from fmreport import sections

QUICK = {"epochs": 1, "batch_size": 50}
TINY = """
description: a tree and a network that are fitted, and a forest that is not
dataset: sample
models:
  decision_tree: {max_depth: 4}
  mlp: {hidden_sizes: [16], recipe: {epochs: 2}}
  random_forest: {n_estimators: 3}
"""


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    project = Project(tmp_path_factory.mktemp("sections"))
    project.params.mkdir()
    (project.params / "tiny.yaml").write_text(TINY, encoding="utf-8")
    profile = load_profile("tiny", project)
    for model in ("decision_tree", "mlp"):
        fit_or_load(job_of(profile, model), here=True)
    return profile


@pytest.fixture(autouse=True)
def _no_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMLIB_FIT", "never")  # as in a report's kernels


# --- A model's section ------------------------------------------------------------------------


def test_a_section_shows_the_models_code_and_how_it_does(profile, shown):
    sections.show_model(profile, "decision_tree", 9)
    result, _ = fit_or_load(job_of(profile, "decision_tree"))
    (code,) = shown.of_kind("code")
    assert "class DecisionTree(Estimator)" in code["text"]
    (facts,) = shown.table("decision_tree-facts")
    assert facts["parameters"] == f"{result.parameter_count:,}"
    assert facts["accuracy (%)"].startswith(f"{100 * result.accuracy:.2f} (")
    assert "hardest class" in shown.prose[-1]
    assert shown.names("figure") == ["decision_tree-importances"], "a tree has no epochs"
    assert shown.notices == []


def test_a_networks_section_shows_how_it_learnt(profile, shown):
    sections.show_model(profile, "mlp", 9)
    assert shown.names("figure") == ["mlp-learning-curves"]
    assert all(one["alt"] and one["caption"] for one in shown.of_kind("figure"))


def test_a_model_without_a_result_is_told_and_the_next_one_stands(profile, shown):
    sections.show_model(profile, "random_forest", 9)
    assert shown.prose == [] and shown.notices == ["Random Forest has no result: never fitted"]
    sections.show_model(profile, "decision_tree", 9)
    assert shown.names("table") == ["decision_tree-facts"]


def test_a_model_that_the_profile_lacks_is_told_where_a_notebook_is_opened_by_hand(profile, shown):
    sections.show_model(profile, "svm", 9)
    assert shown.prose == [] and shown.notices == ["SVM is no model of the profile tiny."]


def test_a_fit_that_failed_is_told_with_its_reason(profile, shown):
    log = job_of(profile, "random_forest").log
    log.parent.mkdir(exist_ok=True)
    log.write_text("Traceback\nMemoryError: no room for a forest\n")
    try:
        sections.show_model(profile, "random_forest", 9)
    finally:
        log.unlink()
    (notice,) = shown.notices
    assert notice.startswith("Random Forest has no result: MemoryError: no room for a forest")
    assert "lower batch_size or image_size" in notice


def test_another_seed_is_another_result(profile, shown):
    sections.show_model(profile, "decision_tree", 10)
    assert len(shown.notices) == 1 and shown.prose == []
    with pytest.raises(FitError):
        fit_or_load(job_of(profile, "decision_tree", 10))


# --- Words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (None, "By F1"),
        (Weights(source="none"), "**No ImageNet weights were at hand**, so it is trained from"),
        (Weights(source="resnet34-b627a593.pth"), "weights in `resnet34-b627a593.pth`"),
    ],
)
def test_what_a_model_started_from_is_told(weights, says):
    words = sections.outcome_sentence(synthetic.record("resnet34", 0.9, weights=weights))
    assert says in words and ("weights" in words) == (weights is not None)


def test_parameters_that_meet_only_padding_are_told():
    record = synthetic.record("vgg16", 0.9, parameter_count=2000, parameters_used=900)
    assert "Of its 2,000 parameters 900 make a difference" in sections.outcome_sentence(record)


def test_the_outcome_is_told_with_the_worst_class_and_the_most_frequent_error():
    result = synthetic.record("alpha", 0.9, size=2000)
    scores = zip(synthetic.NAMES, (0.9, 0.95, 0.412, 0.8, 0.7), strict=True)
    classes = [
        ClassScore(name=name, precision=1, recall=1, f1=f1, support=400) for name, f1 in scores
    ]
    confusion = 380 * np.eye(5, dtype=int)
    confusion[3, 1] = 20
    changed = {"classes": classes, "confusion_matrix": confusion.tolist()}
    words = sections.outcome_sentence(result.model_copy(update=changed))
    error = f"20 of 400 images of {synthetic.NAMES[3]} are taken for {synthetic.NAMES[1]}"
    assert "hardest class is pullover (0.412)" in words and error in words


def test_a_model_without_errors_has_no_most_frequent_one():
    assert "frequent" not in sections.outcome_sentence(synthetic.record("alpha", 1.0))


@pytest.mark.parametrize(
    ("fields", "has", "lacks"),
    [
        (
            {"train_seconds": 10.0, "fit_wall_seconds": 12.0},
            ["10", "12", "300"],
            "GPU memory (MiB)",
        ),
        ({"peak_vram_mb": 2048.0, "machine": synthetic.ELSEWHERE}, ["2,048"], "None"),
        ({"parameter_count": None, "flops_per_image": None}, [], "parameters"),
    ],
)
def test_a_models_figures_stand_in_one_row(fields, has, lacks, shown):
    sections.show_facts(synthetic.record("alpha", 0.9, **fields))
    (facts,) = shown.table("alpha-facts")
    assert {*has} <= {*facts.values()} and lacks not in [*facts, *facts.values()]


# --- A section's parts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probe", "fine_tuning", "says"),
    [
        ({}, {}, None),
        (
            {},
            {"label_smoothing": 0.1},
            "The training loss of fine-tuning includes label smoothing.",
        ),
        (
            {"label_smoothing": 0.1},
            {"label_smoothing": 0.1, "mixup": 0.2},
            "The training loss includes label smoothing. "
            "The training loss of fine-tuning includes mixup.",
        ),
        (
            {},
            {"shift_averaging": 1},
            "Validation averages no moved images; a prediction does.",
        ),
    ],
)
def test_a_learning_curve_says_what_its_numbers_include(shown, probe, fine_tuning, says):
    network = build("resnet34", {"probe": probe, "recipe": fine_tuning})
    network.weights_ = ("found.pth", "1234")
    result = in_stages("alpha", probe=[0.5], **{"fine-tuning": [0.4]})
    sections.show_training(network, result)
    (figure,) = shown.of_kind("figure")
    caption = figure["caption"]
    assert caption.endswith("by epoch.") if says is None else says in caption
    assert shown.names("table") == ["alpha-stages"]


def in_stages(model: str, **losses: list[float]) -> synthetic.Result:
    """A result of a network that was trained in stages with these validation losses."""
    epochs = [
        Epoch(
            stage=stage,
            epoch=number,
            lr=0.1,
            train_loss=loss,
            validation_loss=loss,
            validation_accuracy=1 - loss,
            train_seconds=2,
            rss_mb=500,
        )
        for stage, of_stage in losses.items()
        for number, loss in enumerate(of_stage, 1)
    ]
    return synthetic.record(model, 0.9).model_copy(update={"history": epochs})


def test_a_stage_ends_with_the_weights_that_it_leaves():
    network = build("resnet34", {"probe": {}, "recipe": {"patience": 1}})
    network.weights_ = ("found.pth", "1234")
    losses = {"probe": [0.5, 0.25, 0.75], "fine-tuning": [0.5, 0.125, 0.25]}
    table = sections.stage_table(network, in_stages("alpha", **losses))
    assert table["stage"].tolist() == ["probe", "fine-tuning"]
    assert table["epochs"].tolist() == [3, 3]
    assert table["validation accuracy"].tolist() == [0.25, 0.875], "the last, and the best"
    assert table["training (s)"].tolist() == [6.0, 6.0]


# --- Where a network looks --------------------------------------------------------------------


def bright(frozen: int = 0) -> Backbone:
    """A network that sees brightness: the more of it, the more class 1."""
    see = nn.Conv2d(1, 1, 1, bias=False)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = Backbone([see, pool], 2, torch.zeros(1, 1, 16, 16))
    with torch.no_grad():
        see.weight.fill_(1)
        network.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
    network.frozen = frozen
    return network


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_map_is_hot_where_the_patch_that_decides_is(frozen):
    images = torch.zeros(2, 1, 16, 16)
    images[0, :, 2:6, 2:6] = 1
    images[1, :, 9:14, 8:12] = 0.5
    network = bright(frozen)
    maps = sections.grad_cam(network, images, torch.tensor([1, 1]))
    assert maps.shape == (2, 16, 16) and torch.equal(maps > 0.5, images[:, 0] > 0)
    assert network.frozen == frozen, "it can be trained on as before"
    against = sections.grad_cam(network, images, torch.tensor([0, 0]))
    assert against.max() == 0, "nothing speaks for the other class"


@pytest.fixture(scope="module")
def from_scratch(few):
    """A transfer model without weights, whose recipe for that differs from fine-tuning's."""
    parameters = {
        "weights": "none",
        "layer_decay": 0.5,
        "frozen_stages": 1,
        "recipe": QUICK | {"lr": 0.02, "image_size": 32},
        "scratch": QUICK | {"lr": 0.03, "image_size": 28},
    }
    return build("mobilenet_v3_small", parameters).fit(few)


def test_heat_maps_are_from_0_to_1_and_of_the_images_size(from_scratch, few):
    batch = from_scratch.inputs(few.test_images)
    maps = sections.grad_cam(from_scratch.network_, batch, torch.zeros(20, dtype=torch.int64))
    assert maps.shape == (20, *batch.shape[-2:]) and maps.isfinite().all()
    assert maps.min() >= 0 and maps.max() <= 1


def test_a_transfer_model_shows_where_it_looks_for_correct_and_wrong_images(
    from_scratch, few, shown
):
    before = from_scratch.predict_proba(few.test_images)
    made_up = synthetic.record("mobilenet_v3_small", 0.9)
    result = made_up.model_copy(update={"proba": before.astype("float16")})
    sections.show_where_it_looks(from_scratch, result, few)
    (figure,) = shown.of_kind("figure")
    wrong = min(int((before.argmax(1) != few.test_labels).sum()), 3)
    assert figure["name"] == "mobilenet_v3_small-grad-cam" and figure["alt"]
    assert f"the last {wrong}) wrongly" in figure["caption"]
    assert (from_scratch.predict_proba(few.test_images) == before).all()


# --- Settings and layers ----------------------------------------------------------------------


def settings_of(model) -> dict[str, str]:
    return dict(sections.settings_table(model).itertuples(index=False))


def test_settings_include_defaults_and_read_like_words(few):
    recipe = QUICK | {"lr": 0.00012345, "augmentation": {"flip": True}}
    given = settings_of(build("mlp", {"hidden_sizes": [8, 4], "recipe": recipe}).fit(few))
    assert given["hidden sizes"] == "8, 4" and given["lr"] == "0.0001234"
    assert given["flip"] == "yes" and given["patience"] == "none"
    assert given["optimizer"] == "adam" and "momentum" not in given, "Adam has none"
    tree = sections.settings_table(build("decision_tree", {"max_depth": 3}))
    assert tree["setting"].is_unique and all(isinstance(one, str) for one in tree["value"])
    assert settings_of(build("decision_tree", {"max_depth": 3}))["max depth"] == "3"


@pytest.mark.parametrize("model", [one for one, cls in MODELS.items() if cls.family == "classical"])
def test_every_classical_models_settings_are_shown_without_a_fit(model):
    table = sections.settings_table(build(model))
    assert table.columns.tolist() == ["setting", "value"] and len(table) > 1
    assert all(isinstance(value, str) and value for value in table["value"])
    assert table["setting"].is_unique


@pytest.mark.parametrize(
    ("capable", "shows"), [(True, "bfloat16"), (False, "float32, as there is no bfloat16 here")]
)
def test_the_precision_shown_is_the_one_computed_in(few, monkeypatch, capable, shows):
    recipe = QUICK | {"precision": "bfloat16"}
    network = build("mlp", {"hidden_sizes": [4], "recipe": recipe}).fit(few)
    monkeypatch.setattr(sections, "has_bfloat16", lambda _device: capable)
    assert settings_of(network)["precision"] == shows


def test_the_settings_of_a_network_from_scratch_are_those_it_was_trained_by(from_scratch):
    given = settings_of(from_scratch)
    assert (given["lr"], given["image size"]) == ("0.03", "28")
    assert not {"layer decay", "frozen stages", "new stem"} & set(given)
    assert [name for name in given if "probe" in name or "scratch" in name] == []


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("mlp", {"hidden_sizes": [6]}),
        ("cnn", {"widths": [4]}),
        ("study_cnn", {}),
        ("cnn", {"widths": [4], "recipe": QUICK | {"flip_averaging": True}}),
    ],
)
def test_a_networks_layers_are_listed_once_in_order_with_all_their_weights(few, model, parameters):
    network = build(model, {"recipe": QUICK} | parameters).fit(few)
    before = network.predict_proba(few.test_images)
    table = sections.layer_table(network)
    assert table.columns.tolist() == ["layer", "output", "weights"]
    assert table["weights"].sum() == network.parameter_count()
    assert table["output"].iloc[-1] == "10"
    assert (network.predict_proba(few.test_images) == before).all()


def test_the_layers_of_a_network_have_names_in_words(few):
    network = build("cnn", {"widths": [4], "recipe": QUICK}).fit(few)
    names = set(sections.layer_table(network)["layer"])
    assert {"convolution", "batch normalisation"} <= names


# --- Opened by hand ---------------------------------------------------------------------------


@pytest.fixture
def hand(monkeypatch):
    monkeypatch.delenv("FMLIB_FIT")


@pytest.fixture
def elsewhere(profile, tmp_path) -> Profile:
    """The same profile in a project where nothing is fitted, and two models are published."""
    project = Project(tmp_path)
    published = project.published("tiny") / "results"
    for model in ("decision_tree", "mlp"):
        folder = profile.results / model / "seed-9"
        (published / model / "seed-9").mkdir(parents=True)
        for name in (RESULT_FILE, PREDICTIONS_FILE, MANIFEST_FILE):
            shutil.copyfile(folder / name, published / model / "seed-9" / name)
    path = project.params / "tiny.yaml"
    return profile.model_copy(update={"project": project, "path": path})


def test_a_published_result_is_shown_where_nothing_is_fitted(elsewhere, shown, hand):
    sections.show_model(elsewhere, "mlp", 9)
    (notice,) = shown.notices
    assert "published" in notice and "make report PROFILE=tiny" in notice
    assert shown.names("figure") == ["mlp-learning-curves"]
    assert "class MLP(Network)" in shown.of_kind("code")[0]["text"]
    sections.show_settings(elsewhere, sections.records(elsewhere)[:2])
    assert {"decision_tree-settings", "mlp-settings"} <= {*shown.names("table")}
    assert not (elsewhere.results / "mlp").exists(), "nothing was trained"


def test_a_report_never_shows_a_published_result_as_its_own(elsewhere, shown):
    sections.show_model(elsewhere, "mlp", 9)
    assert shown.notices == ["MLP has no result: never fitted"] and shown.prose == []
    assert sections.records(elsewhere) == []


def test_by_hand_the_records_are_complete_on_the_sample(elsewhere, shown, hand):
    found = sections.records(elsewhere)
    assert [one.model for one in found] == [*elsewhere.models] and shown.notices == []
    assert [path.name for path in elsewhere.results.iterdir()] == ["random_forest"]


def test_by_hand_nothing_large_is_fitted_unasked(elsewhere, shown, hand):
    large = elsewhere.model_copy(update={"dataset": "fashion_mnist"})
    assert [one.model for one in sections.records(large)] == ["decision_tree", "mlp"]
    assert "Random Forest" in shown.notices[0]
    sections.show_change(large, "decision_tree", {"max_depth": 2}, 9)
    assert "lesson" in shown.notices[1] and shown.names("table") == []


def test_a_change_stands_beside_what_it_changes(profile, shown, hand):
    sections.show_change(profile, "decision_tree", {"max_depth": 1, "criterion": "entropy"}, 9)
    before, after = shown.table("decision_tree-change")
    assert (before["settings"], after["settings"]) == (
        "as it is",
        "max_depth: 1; criterion: entropy",
    )
    assert float(before["accuracy"]) > float(after["accuracy"])
    with pytest.raises(ParameterError, match="depth"):
        sections.show_change(profile, "decision_tree", {"depth": 1}, 9)


# --- The appendix -----------------------------------------------------------------------------


def test_the_appendix_shows_the_settings_of_what_was_fitted_and_names_the_rest(profile, shown):
    sections.show_settings(profile, sections.records(profile))
    assert shown.names("table") == ["decision_tree-settings", "mlp-settings", "mlp-layers"]
    (notice,) = shown.notices
    assert "No result of the profile tiny: Random Forest." in notice
    assert "make report PROFILE=tiny" in notice
    given = {row["setting"]: row["value"] for row in shown.table("mlp-settings")}
    assert given["hidden sizes"] == "16" and given["epochs"] == "2"


def test_the_appendix_shows_every_epoch_of_every_network(profile, shown):
    sections.show_log(sections.records(profile))
    assert shown.names("table") == ["mlp-9-log"]
    assert [row["epoch"] for row in shown.table("mlp-9-log")] == ["1", "2"]


def test_the_appendix_shows_where_and_with_what_each_result_was_measured(shown):
    versions = synthetic.HERE.model_copy(update={"versions": {"torch": "2.14"}})
    newer = synthetic.ELSEWHERE.model_copy(update={"versions": {"torch": "2.15", "numpy": "2.1"}})
    sections.show_environment(
        [
            synthetic.record("alpha", 0.9, machine=versions, git_commit="c0ffee" * 5),
            synthetic.record("beta", 0.9, machine=newer, git_commit="d" * 40, git_dirty=True),
            synthetic.record("gamma", 0.9, machine=versions),
        ]
    )
    commits = [row["commit"] for row in shown.table("environment")]
    assert commits == ["c0ffeec0ff", "d" * 10 + " with local changes", "none"]
    assert shown.prose == ["Versions: numpy 2.1 and torch 2.14 or 2.15."]
