"""Federated training in one process with real codecs."""
