"""The Python client of a splitmesh gateway: pictures in, answers out, and a look into the mesh."""

from splitmesh.client.aio import AsyncClient
from splitmesh.client.errors import CallFailed, FrameFailed
from splitmesh.client.sync import Client
from splitmesh.client.values import Fault, Model, Picture, Result, Watch

__all__ = ["AsyncClient", "CallFailed", "Client", "Fault", "FrameFailed", "Model", "Picture", "Result", "Watch"]
