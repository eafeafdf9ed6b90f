"""Workloads: models, their data, and how both are divided over a federation."""
