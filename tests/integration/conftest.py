from cloud_rig import broker, bundle, edge, hosted
from mesh_run import scene

__all__ = ["broker", "bundle", "edge", "hosted", "scene"]
