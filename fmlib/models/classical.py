"""Decision tree, random forest, SVM and gradient boosting, on pixels, on their square roots or on HOG features."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from scipy.special import log_expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from fmlib.data import NUM_CLASSES, Images, Labels, check_images, check_labelled
from fmlib.models.base import Predictor
from fmlib.training import Stopwatch

Features = NDArray[np.float32]
Share = Annotated[float, Field(gt=0, le=1)]


def hog(images: Images, cell_size: int = 4, orientations: int = 9, batch_size: int = 2000) -> Features:
    """Histograms of oriented gradients of images uint8 (n, H, W): float32 (n, features).

    Dalal and Triggs 2005, https://doi.org/10.1109/CVPR.2005.177: square-root gamma, unsigned gradients with votes shared
    between neighbouring orientations, square cells, overlapping blocks of 2 x 2 cells, clipped L2 norm.
    """
    batches = torch.from_numpy(np.ascontiguousarray(images)).split(batch_size)
    return torch.cat([_hog_batch(batch, cell_size, orientations) for batch in batches]).numpy()


def _hog_batch(images: torch.Tensor, cell_size: int, orientations: int) -> torch.Tensor:
    x = (images.float() / 255).sqrt()
    dx = F.pad(x[:, :, 2:] - x[:, :, :-2], (1, 1))
    dy = F.pad(x[:, 2:] - x[:, :-2], (0, 0, 1, 1))
    magnitude, angle = torch.hypot(dx, dy), torch.atan2(dy, dx) % torch.pi / torch.pi * orientations
    lower = angle.floor()
    share, lower = angle - lower, lower.long()
    votes = x.new_zeros(len(x), orientations, *x.shape[1:])
    for bins, weight in ((lower, 1 - share), (lower + 1, share)):
        votes.scatter_add_(1, bins[:, None] % orientations, (magnitude * weight)[:, None])
    blocks = F.unfold(F.avg_pool2d(votes, cell_size), kernel_size=2).transpose(1, 2)
    clipped = F.normalize(blocks, dim=2).clamp(max=0.2)
    return F.normalize(clipped, dim=2).flatten(1)


@dataclass(config=ConfigDict(extra="forbid"))
class Classical(Predictor):
    """What the four share: features of raw images in, an estimator of scikit-learn's kind behind.

    ``features``: pixels from 0 to 1, their square roots ("roots", a gamma correction that spreads the dark shades), or
    histograms of oriented gradients ("hog").
    """

    features: Literal["pixels", "roots", "hog"] = "pixels"
    seed: int = 9

    def fit(self, images: Images, labels: Labels, validation: tuple[Images, Labels]) -> Self:
        images, labels = check_labelled(images, labels)
        validation = check_labelled(*validation, name="validation")
        self.history_, watch = [], Stopwatch()
        self.classes_, encoded = np.unique(labels, return_inverse=True)  # XGBoost wants them without gaps
        with watch:
            self.estimator_ = self._fit(self._features(images), encoded)
        self.train_seconds_ = watch.seconds
        self._calibrate(*validation)
        self.flops_ = self._flops(self._features(validation[0][:500]))
        return self

    def predict_proba(self, images: Images) -> NDArray[np.float32]:
        proba = self.estimator_.predict_proba(self._features(check_images(images)))
        full = np.zeros((len(proba), NUM_CLASSES), np.float32)
        full[:, self.classes_] = proba  # a class that training never saw gets probability 0
        return full

    def flops_per_image(self) -> float:
        """Operations of one prediction; of trees, the comparisons along the paths, of boosted ones the most there can be."""
        return self.flops_

    def _features(self, images: Images) -> Features:
        if self.features == "hog":
            return hog(images)
        pixels = images.reshape(len(images), -1).astype(np.float32) / 255
        return np.sqrt(pixels, out=pixels) if self.features == "roots" else pixels

    def _settings(self) -> dict[str, Any]:
        """The estimator's own parameters: a model of trees names its fields as its estimator does."""
        return {name: value for name, value in asdict(self).items() if name not in ("features", "seed")}

    def _fit(self, features: Features, labels: Labels) -> Any:
        raise NotImplementedError

    def _calibrate(self, images: Images, labels: Labels) -> None:
        """Turn scores into probabilities, for estimators that have none of their own."""

    def _flops(self, features: Features) -> float:
        raise NotImplementedError


@dataclass(config=ConfigDict(extra="forbid"))
class DecisionTree(Classical):
    """One CART tree (Breiman et al. 1984), https://scikit-learn.org/stable/modules/tree.html."""

    criterion: Literal["gini", "entropy"] = "gini"
    max_depth: PositiveInt | None = None
    min_samples_leaf: PositiveInt = 1
    max_features: Share | Literal["sqrt", "log2"] | None = None

    def _fit(self, features: Features, labels: Labels) -> DecisionTreeClassifier:
        return DecisionTreeClassifier(**self._settings(), random_state=self.seed).fit(features, labels)

    def parameter_count(self) -> int:
        """Nodes of the tree."""
        return self.estimator_.tree_.node_count

    def _flops(self, features: Features) -> float:
        return float(self.estimator_.decision_path(features).sum() / len(features) - 1)  # the last node of a path asks nothing


@dataclass(config=ConfigDict(extra="forbid"))
class RandomForest(Classical):
    """Trees on bootstrap samples and random subsets of features (Breiman 2001, https://doi.org/10.1023/A:1010933404324)."""

    n_estimators: PositiveInt = 100
    criterion: Literal["gini", "entropy"] = "gini"
    max_depth: PositiveInt | None = None
    min_samples_leaf: PositiveInt = 1
    max_features: Share | Literal["sqrt", "log2"] | None = "sqrt"
    bootstrap: bool = True

    def _fit(self, features: Features, labels: Labels) -> RandomForestClassifier:
        return RandomForestClassifier(**self._settings(), n_jobs=-1, random_state=self.seed).fit(features, labels)

    def parameter_count(self) -> int:
        """Nodes of all trees."""
        return sum(tree.tree_.node_count for tree in self.estimator_.estimators_)

    def _flops(self, features: Features) -> float:
        return float(self.estimator_.decision_path(features)[0].sum() / len(features) - self.n_estimators)


class PairwiseSVC(SVC):
    """An SVC whose scores say how sure it is: of each class, the logarithm of the product of its pairwise probabilities.

    The 45 machines of ten classes vote, and scikit-learn's scores count votes, nearly alike for sure and for doubtful images.
    Here the margin ``m`` between two classes gives the first the probability 1 / (1 + exp(-SLOPE * m)), Platt's (1999), of
    which a class has one with each other; a simpler form of pairwise coupling (Hastie and Tibshirani 1998,
    https://doi.org/10.1214/aos/1028144844).
    """

    SLOPE = 4.0  # Platt's fit on the validation images gives 3.5 to 3.8, and 3 to 6 do as well; a margin's unit is the SVM's

    def decision_function(self, features: Features) -> NDArray[np.float64]:
        """Scores (n, classes); of two classes their margin, (n,)."""
        margins = self.SLOPE * super().decision_function(features)
        if margins.ndim == 1:
            return margins
        first, second = np.triu_indices(len(self.classes_), 1)
        of_first, of_second = (np.eye(len(self.classes_))[pair] for pair in (first, second))
        return log_expit(margins) @ of_first + log_expit(-margins) @ of_second


@dataclass(config=ConfigDict(extra="forbid"))
class SVM(Classical):
    """An RBF support-vector machine on principal components (Cortes and Vapnik 1995, https://doi.org/10.1007/BF00994018).

    ``gamma``: the kernel's width, in multiples of 1 / (components * variance), scikit-learn's "scale".
    """

    C: PositiveFloat = 10.0
    gamma: PositiveFloat = 1.0
    components: PositiveInt | None = 80

    def _fit(self, features: Features, labels: Labels) -> Pipeline:
        reduce = PCA(self.components, svd_solver="covariance_eigh") if self.components else FunctionTransformer()
        reduced = reduce.fit_transform(features)
        gamma = self.gamma / (reduced.shape[1] * float(reduced.var()))
        machine = PairwiseSVC(C=self.C, gamma=gamma, cache_size=1000, decision_function_shape="ovo")
        return make_pipeline(reduce, machine.fit(reduced, labels))

    def _calibrate(self, images: Images, labels: Labels) -> None:
        """Scores become probabilities by one temperature, fitted on validation images (Guo et al. 2017)."""
        self.pipeline_ = self.estimator_
        if len(missing := np.setdiff1d(self.classes_, labels)):
            raise ValueError(f"validation labels: wanted every class, to calibrate the SVM, got none of {missing.tolist()}")
        known = np.isin(labels, self.classes_)  # a class that training never saw has no score
        features, encoded = self._features(images[known]), np.searchsorted(self.classes_, labels[known])
        everything = np.arange(len(encoded))  # nothing is fitted on one fold for another: the estimator is frozen
        calibrated = CalibratedClassifierCV(
            FrozenEstimator(self.estimator_), method="temperature", cv=[(everything, everything)]
        )
        self.estimator_ = calibrated.fit(features, encoded)

    def parameter_count(self) -> int:
        """Coordinates and weights of the support vectors, and the principal axes."""
        svc = self.pipeline_[-1]
        return int(svc.support_vectors_.size + svc.dual_coef_.size + self._axes())

    def _flops(self, features: Features) -> float:
        svc = self.pipeline_[-1]
        return float(2 * self._axes() + 3 * svc.support_vectors_.size + 2 * svc.dual_coef_.size)

    def _axes(self) -> int:
        return getattr(self.pipeline_[0], "components_", np.empty(0)).size


@dataclass(config=ConfigDict(extra="forbid"))
class HogSVM(SVM):
    """The same machine on histograms of oriented gradients."""

    features: Literal["hog"] = "hog"


@dataclass(config=ConfigDict(extra="forbid"))
class XGBoost(Classical):
    """Gradient-boosted trees by histograms (Chen and Guestrin 2016, https://doi.org/10.1145/2939672.2939785).

    On the processor always: what XGBoost takes of a GPU's memory could not be measured.
    """

    n_estimators: PositiveInt = 100
    learning_rate: float = Field(default=0.3, gt=0, le=1)
    max_depth: PositiveInt = 6
    max_bin: int = Field(default=256, ge=2)
    min_child_weight: float = Field(default=1.0, ge=0)
    subsample: float = Field(default=1.0, gt=0, le=1)
    colsample_bytree: float = Field(default=1.0, gt=0, le=1)
    colsample_bynode: float = Field(default=1.0, gt=0, le=1)
    reg_lambda: float = Field(default=1.0, ge=0)

    def _fit(self, features: Features, labels: Labels) -> XGBClassifier:
        return XGBClassifier(**self._settings(), tree_method="hist", random_state=self.seed).fit(features, labels)

    def parameter_count(self) -> int:
        """Nodes of all trees."""
        return len(self.estimator_.get_booster().trees_to_dataframe())

    def _flops(self, features: Features) -> float:
        return float(self.n_estimators * NUM_CLASSES * self.max_depth)  # at most: some leaves lie higher
