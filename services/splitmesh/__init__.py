"""Adaptive split inference for video, edge to cloud."""

__version__ = "0.1.0"
