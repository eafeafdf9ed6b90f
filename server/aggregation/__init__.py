"""Aggregation rules: pure algorithms that know nothing of gRPC or Flower."""
