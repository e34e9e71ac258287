"""The models, all behind one contract; ``registry`` knows them by name."""

import warnings

from tqdm import TqdmWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # timm's dependencies look for widgets that nothing here uses
    import timm as timm
