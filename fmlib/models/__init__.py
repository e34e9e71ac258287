"""The models, all behind one contract; ``registry`` knows them by name."""
