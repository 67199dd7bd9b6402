"""Adaptive split inference for video, edge to cloud. `Client` and `AsyncClient` speak to a gateway."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splitmesh.client import AsyncClient as AsyncClient
    from splitmesh.client import Client as Client

__version__ = "0.1.0"

_CLIENTS = ("Client", "AsyncClient")


def __getattr__(name: str) -> Any:
    """The clients are loaded when they are first named: nothing else here needs gRPC."""
    if name in _CLIENTS:
        from splitmesh import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
