"""The worker: one process that holds one emulated core group and trains on its part of the data."""
