"""The client: shifts the model, as the stub workload does."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """The model, shifted by a little."""
    record = message.content.array_records["arrays"]
    shifted = ArrayRecord({name: Array(array.numpy() + np.float32(1e-3)) for name, array in record.items()})
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": shifted, "metrics": metrics}), reply_to=message)
