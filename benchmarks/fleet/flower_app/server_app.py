"""The server: plain FedAvg over one flat array, which is what Flower moves best; writes down when each round ended."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds."""
    config = context.run_config
    out, nodes = Path(str(config["out"])), int(str(config["nodes"]))
    arrays = ArrayRecord({"values": Array(np.linspace(-1, 1, int(str(config["model-bytes"])) // 4, dtype=np.float32))})

    def ended(server_round: int, _: ArrayRecord) -> MetricRecord:
        with out.open("a") as file:
            file.write(f"{server_round} {time.time()}\n")
        return MetricRecord({"round": server_round})

    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
    strategy.start(grid, arrays, num_rounds=int(str(config["rounds"])), evaluate_fn=ended)
