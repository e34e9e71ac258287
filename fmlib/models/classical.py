"""Decision tree, random forest, SVM and gradient boosting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from scipy.special import log_expit
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from fmlib.data import Dataset, Labels
from fmlib.device import available_cores
from fmlib.models.base import Estimator, Features, check_that_it_leads_to_leaves
from fmlib.models.registry import register

if TYPE_CHECKING:
    from xgboost import XGBClassifier

Share = Annotated[float, Field(gt=0, le=1)]


@register("decision_tree", title="Decision Tree", family="classical", readable=True)
class DecisionTree(Estimator):
    """One CART tree (Breiman et al. 1984), https://scikit-learn.org/stable/modules/tree.html."""

    criterion: Literal["gini", "entropy"] = "gini"
    max_depth: PositiveInt | None = None
    min_samples_leaf: PositiveInt = 1
    max_features: Share | Literal["sqrt", "log2"] | None = None

    def make(self, seed: int) -> DecisionTreeClassifier:
        return DecisionTreeClassifier(**self.settings(), random_state=seed)

    def parameter_count(self) -> int:
        """Nodes of the tree."""
        return self.estimator_.tree_.node_count

    def count_flops(self, features: Features) -> float:
        """Comparisons along the path; the last node of one asks nothing."""
        return float(self.estimator_.decision_path(features).sum() / len(features) - 1)


@register("random_forest", title="Random Forest", family="classical")
class RandomForest(Estimator):
    """Trees on bootstrap samples and random subsets of features (Breiman 2001).

    https://doi.org/10.1023/A:1010933404324
    """

    n_estimators: PositiveInt = 100
    criterion: Literal["gini", "entropy"] = "gini"
    max_depth: PositiveInt | None = None
    min_samples_leaf: PositiveInt = 1
    max_features: Share | Literal["sqrt", "log2"] | None = "sqrt"
    bootstrap: bool = True

    def make(self, seed: int) -> RandomForestClassifier:
        cores = available_cores()
        return RandomForestClassifier(**self.settings(), n_jobs=cores, random_state=seed)

    def parameter_count(self) -> int:
        """Nodes of all trees."""
        return sum(tree.tree_.node_count for tree in self.estimator_.estimators_)

    def count_flops(self, features: Features) -> float:
        """Comparisons along the paths through all trees."""
        visited = self.estimator_.decision_path(features)[0].sum() / len(features)
        return float(visited - self.n_estimators)


class PairwiseSVC(SVC):
    """An SVC whose scores say how sure it is.

    The machines of all pairs of classes vote, and scikit-learn's scores count votes, nearly alike
    for sure and for doubtful images. Here the margin ``m`` between two classes gives the first the
    probability 1 / (1 + exp(-SLOPE * m)), Platt's (1999), of which a class has one with each other,
    and a class's score is the logarithm of their product: a simpler form of pairwise coupling
    (Hastie and Tibshirani 1998, https://doi.org/10.1214/aos/1028144844).

    ``width``: gamma in multiples of 1 / (features * variance), scikit-learn's "scale".
    """

    SLOPE = 4.0  # Platt's fit on validation images gives 3.5 to 3.8, and 3 to 6 do as well

    def __init__(self, C: float = 1.0, width: float = 1.0) -> None:
        super().__init__(C=C, cache_size=1000, decision_function_shape="ovo")
        self.width = width

    def fit(self, features: Features, labels: Labels) -> Self:
        """Fit to features (n, f) and labels (n,)."""
        self.gamma = self.width / (features.shape[1] * float(features.var()))
        return super().fit(features, labels)

    def decision_function(self, features: Features) -> NDArray[np.float64]:
        """Scores (n, classes); of two classes their margin, (n,)."""
        margins = self.SLOPE * super().decision_function(features)
        if margins.ndim == 1:
            return margins
        classes = len(self.classes_)
        first, second = np.triu_indices(classes, 1)
        of_first, of_second = np.eye(classes)[first], np.eye(classes)[second]
        return log_expit(margins) @ of_first + log_expit(-margins) @ of_second


@register("svm", title="SVM", family="classical")
class SVM(Estimator):
    """An RBF support-vector machine on principal components (Cortes and Vapnik 1995).

    https://doi.org/10.1007/BF00994018. ``gamma``: the kernel's width, in multiples of 1 /
    (components * variance). ``components``: None takes the features as they are.
    """

    deterministic = True

    C: PositiveFloat = 10.0
    gamma: PositiveFloat = 1.0
    components: PositiveInt | None = 80

    def check(self, data: Dataset) -> None:
        found = self.describe(data.train_images[:1]).shape[1]
        if self.components and self.components > found:
            raise ValueError(f"components: these images have {found} features, fewer than that")

    def make(self, seed: int) -> Pipeline:
        components = self.components
        reduce = (
            PCA(components, svd_solver="covariance_eigh") if components else FunctionTransformer()
        )
        return make_pipeline(reduce, PairwiseSVC(self.C, self.gamma))

    def parameter_count(self) -> int:
        """Coordinates and weights of the support vectors, and the principal axes."""
        machine = self.estimator_[-1]
        return int(machine.support_vectors_.size + machine.dual_coef_.size + self._axes())

    def count_flops(self, features: Features) -> float:
        """Projection, distances to all support vectors, and their weighted sums."""
        machine = self.estimator_[-1]
        vectors = 3 * machine.support_vectors_.size + 2 * machine.dual_coef_.size
        return float(2 * self._axes() + vectors)

    def _axes(self) -> int:
        return getattr(self.estimator_[0], "components_", np.empty(0)).size


@register("svm_hog", title="SVM on HOG", family="classical")
class HogSVM(SVM):
    """The same machine on histograms of oriented gradients."""

    features: Literal["hog"] = "hog"


@register("xgboost", title="XGBoost", family="classical")
class XGBoost(Estimator):
    """Gradient-boosted trees by histograms (Chen and Guestrin 2016).

    https://doi.org/10.1145/2939672.2939785. On the processor always: what XGBoost takes of a GPU's
    memory could not be measured.
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

    def make(self, seed: int) -> XGBClassifier:
        from xgboost import XGBClassifier

        cores = available_cores()
        return XGBClassifier(**self.settings(), tree_method="hist", n_jobs=cores, random_state=seed)

    def parameter_count(self) -> int:
        """Nodes of all trees."""
        return len(self.estimator_.get_booster().trees_to_dataframe())

    def count_flops(self, features: Features) -> float:
        """Comparisons, at most: some leaves lie higher."""
        trees = 1 if len(self.classes_) == 2 else len(self.classes_)
        return float(self.n_estimators * trees * self.max_depth)

    def dump(self, folder: Path) -> None:
        self.estimator_.save_model(folder / "model.json")

    def restore(self, folder: Path) -> None:
        """Take back what :meth:`dump` wrote, in text, as XGBoost reads its binary form unchecked.

        Raises ValueError where a number leads outside of the model, which XGBoost would follow.
        """
        path = folder / "model.json"
        _check_trees(json.loads(path.read_text(encoding="utf-8"))["learner"])
        self.estimator_ = self.make(seed=0)
        self.estimator_.load_model(path)


def _check_trees(learner: dict[str, Any]) -> None:
    """Raise ValueError where a number in a model of XGBoost's leads outside of it."""
    model, size = learner["gradient_booster"]["model"], learner["learner_model_param"]
    trees, of_class = model["trees"], np.array(model["tree_info"])
    rounds = np.array(model["iteration_indptr"])
    known = (of_class >= 0) & (of_class < max(1, int(size["num_class"])))
    in_order = [tree["id"] for tree in trees] == [*range(len(of_class))]
    if (
        not known.all()
        or not in_order
        or rounds[0]
        or (np.diff(rounds, append=len(trees)) < 0).any()
    ):
        raise ValueError("its trees are not in order")
    for tree in trees:
        names = ("left_children", "right_children", "split_indices", "parents")
        left, right, feature, parents = (np.array(tree[name], np.int64) for name in names)
        check_that_it_leads_to_leaves(left, right, feature, int(size["num_feature"]))
        inner = np.flatnonzero(left != -1)
        if (parents[left[inner]] != inner).any() or (parents[right[inner]] != inner).any():
            raise ValueError("a tree's nodes have other parents")
        categorical = any(
            content for name, content in tree.items() if name.startswith("categories")
        )
        if categorical or int(tree["tree_param"]["size_leaf_vector"]) not in (0, 1):
            raise ValueError("a tree of another kind")
