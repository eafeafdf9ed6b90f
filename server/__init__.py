"""The aggregator: it sends the global model to the workers, averages what returns, and keeps the record."""
