"""Owns processes that this one starts: each on a leash, so that none outlives it. Imports no other adapter."""
