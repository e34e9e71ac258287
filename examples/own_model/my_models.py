"""Two models of one's own: an estimator of scikit-learn's, and a network."""

from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from fmlib.models import Estimator, Network, register


@register("knn", title="k nearest neighbours")
class KNN(Estimator):
    """The commonest class among the training images that are most alike, pixel by pixel."""

    n_neighbors: int = 5

    def make(self, seed):
        return KNeighborsClassifier(self.n_neighbors)


@register("tiny_net", title="Tiny net")
class TinyNet(Network):
    """Two dense layers, which see an image as a list of numbers."""

    width: int = 32

    def build(self, spec, examples):
        first = nn.Linear(spec.pixels, self.width)
        last = nn.Linear(self.width, spec.num_classes)
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
