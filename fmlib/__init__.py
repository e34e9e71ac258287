"""Compare image classifiers on FashionMNIST, honestly measured: data, models, training, measurement, comparison, report."""
