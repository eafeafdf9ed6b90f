"""A Flower app that moves a model to and fro: the baseline of the round overhead, on Flower's own engine."""
