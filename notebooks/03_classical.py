# %% tags=["parameters"]
profile: str = "lesson"  # a file of params/: "lesson" takes seconds, "cpu" is the report's
seed: int = 9  # of everything random in a model's training

# %% [markdown]
# # Classical models
#
# These methods need no network. All but one treat an image as a list of pixels without neighbours;
# the SVM on HOG uses histograms of edges. They are the baselines.
#
# Each is fitted on the same training images as the networks, so that methods are compared and not
# data. Trees use only the order of pixel values, so scaling does not matter to them; a
# support-vector machine measures distances, so it does.

# %% [markdown] tags=["fashion-mnist"]
# The appendix shows which settings of each model were tried, and their results on the validation
# images.

# %% tags=["hide-input"]
from fmlib.profiles import load_profile
from fmreport import sections

settings = load_profile(profile)
data = settings.data()

# %% [markdown] tags=["model-decision_tree"]
# ## Decision tree
#
# A decision tree compares one pixel at a time with a threshold, and goes left or right. It is grown
# greedily: at each node, of all pixels and thresholds, it takes the split that leaves the two sides
# purest. With $p_c$ the share of class $c$ among the images at a node, impurity is Gini's or the
# entropy,
#
# $$ H = 1 - \sum_c p_c^2 \qquad \text{or} \qquad H = -\sum_c p_c \log_2 p_c , $$
#
# and a split of $n$ images into $n_L$ and $n_R$ gains $H - \tfrac{n_L}{n} H_L - \tfrac{n_R}{n}
# H_R$. Without limits, a tree grows until every leaf is pure and it fits its training images
# exactly; a maximum depth and a minimum number of images per leaf limit overfitting. Its
# probabilities are the shares of the classes in the leaf that an image reaches.
#
# A tree can be read, and a prediction takes about a dozen comparisons. Its weakness is variance:
# another sample of images gives another tree (Breiman et al. 1984).
#
# *Source:* L. Breiman, J. Friedman, R. Olshen and C. Stone, *Classification and Regression Trees*,
# Wadsworth, 1984.

# %% tags=["model-decision_tree", "hide-input"]
sections.show_model(settings, "decision_tree", seed)

# %% [markdown] tags=["model-random_forest"]
# ## Random forest
#
# A random forest averages many trees, which reduces variance ([Breiman
# 2001](https://doi.org/10.1023/A:1010933404324)). At every node, a tree chooses among a few random
# pixels only. For $B$ trees of variance $\sigma^2$ whose errors have correlation $\rho$, the
# average has variance
#
# $$ \rho \sigma^2 + \frac{1 - \rho}{B} \sigma^2 . $$
#
# More trees only shrink the second term; random pixels shrink $\rho$. There is little to tune, and
# the trees are grown in parallel on all cores.
#
# *Source:* L. Breiman, *Random forests*, Machine Learning 45, 2001, doi:10.1023/A:1010933404324.

# %% tags=["model-random_forest", "hide-input"]
sections.show_model(settings, "random_forest", seed)

# %% [markdown] tags=["model-svm", "model-svm_hog"]
# ## Support-vector machine
#
# A support-vector machine separates two classes by the boundary with the widest margin, in a space
# where the inner product of two images is a kernel of their distance,
#
# $$ k(x, x') = \exp\left(-\gamma \lVert x - x' \rVert^2\right) . $$
#
# Its decision function $f(x) = \sum_i \alpha_i y_i k(x_i, x) + b$ depends only on the training
# images near the boundary, the support vectors. The penalty of a margin violation, $C$, and the
# width of the kernel, set by $\gamma$, decide how closely the boundary follows them ([Cortes and
# Vapnik 1995](https://doi.org/10.1007/BF00994018)); the settings give $\gamma$ in multiples of 1 /
# (number of features × their variance). There is one such machine for every pair of classes, 45 for
# ten.
#
# Its cost is the matrix of kernel values, which grows with the square of the number of images: ten
# times the data would be too much. Where the settings name a number of components, the features are
# first projected on that many principal components, which hold most of the variance in a fraction
# of the numbers and keep the fit to seconds.
#
# Libraries let the machines vote; votes are not probabilities, and hardly distinguish a clear case
# from a doubtful one. Here a logistic function turns each margin into a pairwise probability. A
# class's score is the product of its pairwise probabilities, and the largest score is the
# prediction. One [temperature](#glossary), fitted on the validation images, scales the scores. This
# is simpler than Platt (1999), who fits a curve to every machine, and than [Hastie and Tibshirani
# (1998)](https://doi.org/10.1214/aos/1028144844), who fit the probabilities of the classes to those
# of all pairs.
#
# Bright pixels dominate a distance. Where the settings say *roots*, the machine's input is the
# square root of every pixel, a gamma correction of one half, which spreads the dark shades, so that
# an edge in a dark region counts more.
#
# *Sources:* C. Cortes and V. Vapnik, *Support-vector networks*, Machine Learning 20, 1995,
# doi:10.1007/BF00994018; J. Platt, *Probabilistic outputs for support vector machines*, 1999; T.
# Hastie and R. Tibshirani, *Classification by pairwise coupling*, Annals of Statistics 26, 1998,
# doi:10.1214/aos/1028144844.

# %% tags=["model-svm", "hide-input"]
sections.show_model(settings, "svm", seed)

# %% [markdown] tags=["model-svm_hog"]
# ## Support-vector machine on histograms of gradients
#
# The input of this support-vector machine is not pixels but histograms of oriented gradients: the
# strength of the edges in each of nine directions, in each cell of 4 × 4 pixels, normalised over
# blocks of 2 × 2 cells ([Dalal and Triggs 2005](https://doi.org/10.1109/CVPR.2005.177)). These
# features are written by hand; a convolutional network has to learn such features. The exact
# position of an edge and the brightness of the object hardly matter.
#
# *Source:* N. Dalal and B. Triggs, *Histograms of oriented gradients for human detection*, CVPR
# 2005, doi:10.1109/CVPR.2005.177.

# %% tags=["model-svm_hog", "hide-input"]
sections.show_model(settings, "svm_hog", seed)

# %% [markdown] tags=["model-xgboost"]
# ## XGBoost
#
# Gradient boosting grows trees one after another, each on the errors of the sum so far ([Chen and
# Guestrin 2016](https://doi.org/10.1145/2939672.2939785)). In round $t$, with $g_i$ and $h_i$ the
# first and second derivatives of the loss of image $i$ at the present prediction, a leaf that holds
# the images $I$ gets the value on the left, and a split has the gain on the right,
#
# $$ w = -\frac{\sum_{i \in I} g_i}{\sum_{i \in I} h_i + \lambda} , \qquad
#    \tfrac12 \left[ \frac{G_L^2}{H_L + \lambda} + \frac{G_R^2}{H_R + \lambda}
#    - \frac{G^2}{H + \lambda} \right] , $$
#
# where $G$ and $H$ are the sums of $g_i$ and $h_i$ over a side of the split or, without index, over
# both. Every round grows one tree per class. Each tree is weak and is scaled by the learning rate;
# their sum is a strong model. Every round takes time, and late rounds overfit.
#
# Pixels are sorted once into a few steps of brightness, so that a split is found in a histogram of
# these instead of a pass over all images. Every tree gets a random part of the images and pixels,
# so that the trees differ more.
#
# *Source:* T. Chen and C. Guestrin, *XGBoost: a scalable tree boosting system*, KDD 2016,
# doi:10.1145/2939672.2939785.

# %% tags=["model-xgboost", "hide-input"]
sections.show_model(settings, "xgboost", seed)

# %% [markdown] tags=["exercise"]
# ## Try it
#
# Change the first line of the next cell, and run it. The changed model is fitted in seconds and
# compared with the one above on the validation images.
#
# - `"decision_tree", {"max_depth": 3}`: at most three comparisons per image. Which depth is enough?
# - `"random_forest", {"n_estimators": 5}`: a few trees. How many are enough?
# - `"svm", {"gamma": 30.0}`: a kernel so narrow that every image is far from every other.

# %% tags=["exercise"]
model, change = "decision_tree", {"max_depth": 3}
sections.show_change(settings, model, change, seed)
