"""What keeps a machine from being a good worker, and what to do about it."""
