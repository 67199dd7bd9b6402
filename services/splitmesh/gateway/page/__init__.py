"""Owns the live page: what an operator sees of a mesh in a browser, and what may be moved from there."""
