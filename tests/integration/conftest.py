from cloud_rig import broker, bundle, edge, hosted

__all__ = ["broker", "bundle", "edge", "hosted"]
