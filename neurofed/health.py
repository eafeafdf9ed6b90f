"""Is the aggregator well? `python -m neurofed.health HOST:PORT` asks it by gRPC's health protocol, and loads no torch.

For container engines and orchestrators: exit code 0 if it serves, 1 if not, with one line that says why.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from neurofed.errors import LinkError, NeuroFedError
from neurofed.security.options import Security

_TIMEOUT_S = 5.0


def require_serving(address: str, security: Security, service: str = "", timeout_s: float = _TIMEOUT_S) -> None:
    """Ask an aggregator whether it serves.

    Args:
        address: its `HOST:PORT`.
        security: the files to show and to trust by; a worker's, an operator's or a viewer's will do.
        service: full name of a gRPC service; empty means the aggregator as a whole.
        timeout_s: how long to wait for the answer.

    Raises:
        LinkError: if it does not answer, or does not serve.
        SecurityError: if a file cannot be used, or the two sides do not trust each other.
    """
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from neurofed import rpc

    credentials = security.credentials(rpc.split_address(address)[0])
    request = health_pb2.HealthCheckRequest(service=service)
    with rpc.channel(address, credentials) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            status: int = stub.Check(request, timeout=timeout_s).status
        except grpc.RpcError as error:
            raise rpc.in_our_words(error, address, credentials) from None
    if status != health_pb2.HealthCheckResponse.SERVING:
        got = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
        raise LinkError(f"expected {service or 'the aggregator'} at {address} to serve, got {got}")


def main() -> None:
    """Ask once, and end with 0 or 1."""
    parser = argparse.ArgumentParser(prog="python -m neurofed.health", description=__doc__)
    parser.add_argument("address", help="HOST:PORT of the aggregator")
    parser.add_argument("--service", default="", help="gRPC service to ask about; by default the whole aggregator")
    parser.add_argument("--timeout-s", type=float, default=_TIMEOUT_S, help="how long to wait for the answer")
    parser.add_argument("--tls-dir", type=Path, default=os.environ.get("NEUROFED_TLS_DIR"))
    parser.add_argument("--insecure", action="store_true", default=bool(os.environ.get("NEUROFED_INSECURE")))
    asked = parser.parse_args()
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        security = Security(asked.tls_dir, insecure=asked.insecure)
        require_serving(asked.address, security, asked.service, asked.timeout_s)
    except NeuroFedError as error:
        sys.stderr.write(f"neurofed: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
