"""The trainer: what it trains on, and what it keeps."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from fmlib import training
from fmlib.results import Epoch
from fmlib.training import Progress, Recipe, Trainer, learning_rate_factor, parameter_groups
from fmlib.transforms import channels_first

CPU = torch.device("cpu")


class Linear(nn.Module):
    """A linear classifier that notes every batch it sees, and whether it is being trained."""

    def __init__(self, pixels: int = 784, classes: int = 10) -> None:
        super().__init__()
        self.layer = nn.Linear(pixels, classes)
        self.seen: list[tuple[bool, Tensor]] = []
        self.dtypes: set[torch.dtype] = set()

    def forward(self, batch: Tensor) -> Tensor:
        self.seen.append((self.training, batch.detach().clone()))
        logits = self.layer(batch.flatten(1))
        self.dtypes.add(logits.dtype)
        return logits

    def batches(self, training: bool) -> list[Tensor]:
        return [batch for was_training, batch in self.seen if was_training == training]


def trainer(network: nn.Module | None = None, seed: int = 9, **recipe: object) -> Trainer:
    if network is None:
        torch.manual_seed(seed)
        network = Linear()
    settings = Recipe(**({"epochs": 2, "batch_size": 50} | recipe))
    return Trainer(network, settings, 0.0, 255.0, 10, CPU, seed)


Tensors = tuple[Tensor, Tensor]


def raw(images: np.ndarray) -> Tensor:
    """A batch of raw images, (n, channels, H, W)."""
    return channels_first(torch.from_numpy(images))


@pytest.fixture(scope="module")
def train(small) -> Tensors:
    return raw(small.train_images), torch.from_numpy(small.train_labels)


@pytest.fixture(scope="module")
def validation(small) -> Tensors:
    return raw(small.validation_images), torch.from_numpy(small.validation_labels)


def weights(network: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(network.parameters()).detach().clone()


# --- What a network sees ----------------------------------------------------------------------


def numbered(n: int) -> Tensors:
    """Images 2 x 2 whose left pixels hold the image's number and whose right ones are black."""
    images = torch.zeros(n, 1, 2, 2, dtype=torch.uint8)
    images[:, :, :, 0] = torch.arange(1, n + 1)[:, None, None]
    return images, torch.arange(n) % 10


@given(st.integers(1, 200), st.integers(1, 64))
def test_an_epoch_shows_every_image_once_in_batches_of_nearly_one_size(n, batch_size):
    network = Linear(4)
    one = Trainer(network, Recipe(epochs=1, batch_size=batch_size), 0.0, 1.0, 10, CPU, 0)
    one.train(*numbered(n), numbered(3))
    sizes = [len(batch) for batch in network.batches(training=True)]
    seen = torch.cat(network.batches(training=True))[:, 0, 0, 0].round().int().tolist()
    assert sorted(seen) == list(range(1, n + 1))
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1


def test_every_epoch_has_an_order_of_its_own(train, validation):
    network = Linear()
    trainer(network).train(*train, validation)
    first, second = torch.cat(network.batches(training=True)).split(300)
    assert not torch.equal(first, second)
    assert torch.equal(first.sum((1, 2, 3)).sort().values, second.sum((1, 2, 3)).sort().values)


def test_training_images_are_augmented_and_validation_images_are_not(train, validation):
    network = Linear()
    hides_all = {"erase_size": 56}  # pixels, of a square at any place
    trainer(network, augmentation=hides_all).train(*train, validation)
    assert all(batch.max() == 0 for batch in network.batches(training=True))
    assert torch.equal(network.batches(training=False)[0], validation[0] / 255)


def test_no_gradient_comes_from_validation_images(train, validation):
    other = 255 - validation[0], (validation[1] + 1) % 10
    trained = [weights(trainer().train(*train, one).network) for one in (validation, other)]
    assert torch.equal(*trained)


def test_the_network_is_left_as_it_was_by_validation_and_test(train, validation):
    one = trainer(
        nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Dropout(0.5), nn.Linear(784, 10))
    )
    before = {name: value.clone() for name, value in one.network.state_dict().items()}
    assert one.validate(*validation) == one.validate(*validation)
    assert all(torch.equal(value, before[name]) for name, value in one.network.state_dict().items())


# --- What it keeps ----------------------------------------------------------------------------


def scripted(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> list[Tensor]:
    """Make validation report these losses; the weights that each was asked for come back."""
    kept: list[Tensor] = []

    def validate(self: Trainer, _images: Tensor, _labels: Tensor) -> tuple[float, float]:
        kept.append(weights(self.network))
        return losses[len(kept) - 1], 0.5

    monkeypatch.setattr(Trainer, "validate", validate)
    return kept


@pytest.mark.parametrize(
    ("losses", "patience", "epochs_run", "best"),
    [
        ([3, 1, 2, 2, 0, 0], 2, 4, 2),
        ([3, 1, 2, 0.5, 1, 1], 2, 6, 4),
        ([1, 1, 1, 1, 1, 1], 1, 2, 1),
        ([6, 5, 4, 3, 2, 1], 1, 6, 6),
        ([1, 2, 3, 4, 5, 6], None, 6, 6),
    ],
)
def test_early_stopping_stops_and_restores_the_best_weights(
    train, validation, monkeypatch, losses, patience, epochs_run, best
):
    kept = scripted(monkeypatch, losses)
    one = trainer(epochs=6, patience=patience).train(*train, validation)
    assert len(one.history) == epochs_run
    assert torch.equal(weights(one.network), kept[best - 1])


def test_the_history_has_a_valid_row_an_epoch(train, validation):
    one = trainer(epochs=3, schedule="linear", lr=0.001).train(*train, validation)
    rows = [Epoch(**row) for row in one.history]
    assert [row.epoch for row in rows] == [1, 2, 3]
    assert [row.lr for row in rows] == pytest.approx([0.001, 0.001 * 2 / 3, 0.001 / 3])
    assert sum(row.train_seconds for row in rows) == pytest.approx(one.train_seconds)
    assert rows[-1].train_loss < rows[0].train_loss
    loss, accuracy = one.validate(*validation)
    assert (rows[-1].validation_loss, rows[-1].validation_accuracy) == pytest.approx(
        (loss, accuracy)
    )


def test_a_trained_network_has_learnt_something(train, validation, small):
    one = trainer(epochs=20, lr=0.003).train(*train, validation)
    proba = one.test(raw(small.test_images))
    assert proba.dtype == torch.float32 and torch.allclose(proba.sum(1), torch.ones(100), atol=1e-5)
    assert (proba.argmax(1).numpy() == small.test_labels).mean() > 0.6


def test_training_time_excludes_validation(train, validation, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)

    class Slow(Linear):
        def forward(self, batch: Tensor) -> Tensor:
            clock.now += 1 if self.training else 1000
            return super().forward(batch)

    one = trainer(Slow()).train(*train, validation)
    assert one.train_seconds == 12
    assert [row["train_seconds"] for row in one.history] == [6, 6]


def test_memory_stays_flat_across_epochs(sample):
    images, labels = raw(sample.train_images), torch.from_numpy(sample.train_labels)
    held_out = raw(sample.validation_images), torch.from_numpy(sample.validation_labels)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    history = trainer(network, epochs=12).train(images, labels, held_out).history
    assert history[-1]["rss_mb"] - history[1]["rss_mb"] < 30


# --- Loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_training_loss_includes_label_smoothing_and_the_validation_loss_does_not(
    train, validation, smoothing
):
    one = trainer(epochs=1, lr=1e-12, label_smoothing=smoothing)
    logits = one.network(train[0] / 255).detach()
    held_out = one.network(validation[0] / 255).detach()
    row = one.train(*train, validation).history[0]
    assert row["train_loss"] == pytest.approx(
        F.cross_entropy(logits, train[1], label_smoothing=smoothing).item(), rel=1e-4
    )
    assert row["validation_loss"] == pytest.approx(
        F.cross_entropy(held_out, validation[1]).item(), rel=1e-4
    )


def test_a_loss_that_is_no_number_is_an_error_that_names_the_learning_rate(train, validation):
    with pytest.raises(
        FloatingPointError, match=r"training loss became (nan|inf).*lower lr than 1e\+38"
    ):
        trainer(optimizer="sgd", lr=1e38).train(*train, validation)


def test_mixup_takes_weighted_means_of_two_images_and_of_their_labels(train):
    batch, labels = train[0] / 255, train[1]
    torch.manual_seed(0)
    mixed, targets = trainer(mixup=1.0)._mixed(batch, labels)
    others, one_hot = batch.roll(1, 0), F.one_hot(labels, 10).float()
    weight = ((mixed - batch) * (others - batch)).sum() / (others - batch).square().sum()
    assert 0.001 < weight < 0.999
    torch.testing.assert_close(mixed, batch + weight * (others - batch))
    torch.testing.assert_close(targets, one_hot + weight * (one_hot.roll(1, 0) - one_hot))


def test_cutmix_takes_a_rectangle_out_of_another_image_and_its_area_of_the_other_label(train):
    labels = train[1]
    own = (
        torch.arange(len(labels)).view(-1, 1, 1, 1).expand(-1, 1, 28, 28).float()
    )  # pixels that tell whose they are
    one, one_hot, areas = trainer(cutmix=1.0), F.one_hot(labels, 10).float(), []
    torch.manual_seed(0)
    for _ in range(20):
        mixed, targets = one._mixed(own, labels)
        foreign = mixed != own
        torch.testing.assert_close(mixed, torch.where(foreign, own.roll(1, 0), own))
        assert (foreign == foreign[0]).all()
        rows, columns = foreign[0, 0].any(1), foreign[0, 0].any(0)
        assert foreign[0].sum() == rows.sum() * columns.sum()
        areas.append(foreign[0].float().mean())
        torch.testing.assert_close(targets, one_hot + areas[-1] * (one_hot.roll(1, 0) - one_hot))
    assert min(areas) < 0.2 < 0.5 < max(areas)


def test_cutmix_leaves_its_share_of_batches_to_mixup(train):
    batch, labels = train[0] / 255, train[1]
    alone, both = trainer(cutmix=0.5), trainer(cutmix=0.5, mixup=1.0)
    torch.manual_seed(0)
    untouched = [torch.equal(alone._mixed(batch, labels)[0], batch) for _ in range(100)]
    assert 30 < sum(untouched) < 70
    assert {alone._mixed(batch, labels)[1].dtype for _ in range(20)} == {
        torch.float32
    }  # one kind of labels, mixed or not
    assert not any(
        torch.equal(both._mixed(batch, labels)[1], F.one_hot(labels, 10).float()) for _ in range(20)
    )


def test_without_either_batches_are_left_alone(train):
    batch = train[0] / 255
    assert trainer()._mixed(batch, train[1]) == (batch, train[1])


# --- Precision and views ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "capable", "computed_in"),
    [
        ("float32", True, torch.float32),
        ("bfloat16", False, torch.float32),
        ("bfloat16", True, torch.bfloat16),
    ],
)
def test_bfloat16_is_used_only_where_asked_for_and_available(
    train, validation, monkeypatch, precision, capable, computed_in
):
    monkeypatch.setattr(training, "has_bfloat16", lambda _device: capable)
    network = Linear()
    one = trainer(network, precision=precision).train(*train, validation)
    assert network.dtypes == {computed_in}
    assert (
        one.test(validation[0]).dtype == torch.float32 and weights(network).dtype == torch.float32
    )


def test_flip_averaging_gives_an_image_and_its_mirror_image_the_same_probabilities(validation):
    one = trainer(flip_averaging=True)
    images = validation[0]
    assert torch.allclose(one.test(images), one.test(images.flip(-1)), atol=1e-6)
    assert not torch.allclose(trainer().test(images), trainer().test(images.flip(-1)), atol=1e-3)


def test_shift_averaging_predicts_the_mean_over_an_image_and_itself_moved_up_and_down(validation):
    images, black = validation[0], torch.zeros_like(validation[0][:, :, :2])
    both_ways = (images[:, :, 2:], black), (black, images[:, :, :-2])
    moved = [torch.cat(rows, dim=2) for rows in both_ways]
    wanted = torch.stack([trainer().test(one) for one in (images, *moved)]).mean(0)
    torch.testing.assert_close(trainer(shift_averaging=2).test(images), wanted)
    both = trainer(shift_averaging=2, flip_averaging=True)
    torch.testing.assert_close(both.test(images), both.test(images.flip(-1)))
    assert not torch.allclose(wanted, trainer().test(images), atol=1e-3)


def test_validation_after_an_epoch_looks_at_images_that_are_not_moved(validation):
    moved, still = trainer(shift_averaging=2, flip_averaging=True), trainer(flip_averaging=True)
    assert moved.validate(*validation) == still.validate(*validation)
    assert not torch.allclose(moved.test(validation[0]), still.test(validation[0]), atol=1e-3)


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_layout_does_not_change_predictions(validation, channels_last):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    )
    wanted = network(validation[0] / 255).softmax(1)
    assert torch.allclose(
        trainer(network, channels_last=channels_last).test(validation[0]), wanted, atol=1e-5
    )


# --- Schedule and optimiser -------------------------------------------------------------------

kinds, fractions = st.sampled_from(["constant", "linear", "cosine"]), st.floats(0, 1)
warmups = st.one_of(st.just(0.0), st.floats(0.01, 0.9))


@given(kinds, warmups, fractions)
def test_the_learning_rate_lies_between_zero_and_lr(kind, warmup, done):
    assert (
        -1e-9
        <= learning_rate_factor(done, Recipe(schedule=kind, warmup_fraction=warmup))
        <= 1 + 1e-9
    )


@given(kinds, st.floats(0.01, 0.9), fractions, fractions)
def test_the_learning_rate_rises_while_it_warms_up_and_never_after(kind, warmup, a, b):
    recipe = Recipe(schedule=kind, warmup_fraction=warmup)
    first, second = sorted((a, b))
    factors = [learning_rate_factor(done * warmup * 0.999, recipe) for done in (first, second)]
    assert 0.2 - 1e-9 <= factors[0] <= factors[1] <= 1
    later = [learning_rate_factor(warmup + done * (1 - warmup), recipe) for done in (first, second)]
    assert later[0] >= later[1] - 1e-9


@given(warmups)
def test_the_learning_rate_peaks_at_lr_and_falling_schedules_end_at_zero(warmup):
    for kind, end in (("constant", 1.0), ("linear", 0.0), ("cosine", 0.0)):
        recipe = Recipe(schedule=kind, warmup_fraction=warmup)
        assert learning_rate_factor(warmup, recipe) == pytest.approx(1)
        assert learning_rate_factor(1.0, recipe) == pytest.approx(end, abs=1e-9)


def test_all_weights_that_are_not_fixed_learn_alike():
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    network[0].weight.requires_grad_(False)
    (group,) = parameter_groups(network, Recipe(lr=0.1, weight_decay=0.01))
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.01)
    assert {id(p) for p in group["params"]} == {id(p) for p in network.parameters()} - {
        id(network[0].weight)
    }


def test_a_network_may_have_parameter_groups_of_its_own():
    class Own(Linear):
        def parameter_groups(self, recipe: Recipe) -> list[dict[str, object]]:
            return [{"params": [self.layer.bias], "lr": recipe.lr / 2}]

    optimizer = training.make_optimizer(Own(), Recipe(lr=0.1), torch.device("cpu"))
    assert [group["lr"] for group in optimizer.param_groups] == [0.05]


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        ({"optimizer": "sgd"}, torch.optim.SGD),
        ({"optimizer": "sgd", "momentum": 0.0}, torch.optim.SGD),
        ({"optimizer": "adam"}, torch.optim.Adam),
        ({"optimizer": "adamw"}, torch.optim.AdamW),
    ],
)
def test_every_optimiser_lowers_the_loss(train, validation, recipe, kind):
    optimizer = training.make_optimizer(Linear(), Recipe(**recipe), torch.device("cpu"))
    assert type(optimizer) is kind
    if kind is torch.optim.SGD:
        assert optimizer.defaults["momentum"] == (momentum := recipe.get("momentum", 0.9))
        assert optimizer.defaults["nesterov"] == (momentum > 0)
    history = trainer(epochs=3, lr=0.001, **recipe).train(*train, validation).history
    assert history[-1]["train_loss"] < history[0]["train_loss"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": -1},
        {"lr": 0.0},
        {"momentum": 1.0},
        {"weight_decay": -0.1},
        {"schedule": "step"},
        {"optimizer": "lion"},
        {"warmup_fraction": 1.0},
        {"label_smoothing": 1.0},
        {"patience": 0},
        {"precision": "float16"},
        {"image_size": 0},
        {"scaling": "minmax"},
        {"learning_rate": 0.1},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_recipe_refuses_what_it_cannot_do(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Recipe(**wrong)


# --- Progress ---------------------------------------------------------------------------------


def test_progress_hears_every_stage_step_and_epoch(train, validation):
    heard = []

    class Ear(Progress):
        def start(self, stage: str, epochs: int, steps: int, done: int = 0) -> None:
            heard.append((stage, epochs, steps))

        def step(self) -> None:
            heard.append("step")

        def epoch(self, row: dict[str, object]) -> None:
            heard.append(row["epoch"])

    one = trainer()
    one.progress, one.stage = Ear(), "probe"
    one.train(*train, validation)
    assert heard == [("probe", 2, 6), *["step"] * 6, 1, *["step"] * 6, 2]
    assert [row["stage"] for row in one.history] == ["probe"] * 2


def test_a_trainer_says_nothing_by_itself(train, validation, capfd):
    trainer().train(*train, validation)
    assert capfd.readouterr() == ("", "")


def test_features_are_trained_on_as_they_are(train, validation):
    network = nn.Linear(784, 10)
    features = [images.flatten(1).half() / 255 for images in (train[0], validation[0])]
    history = trainer(network).train(features[0], train[1], (features[1], validation[1])).history
    assert history[-1]["train_loss"] < history[0]["train_loss"]
