"""Owns `splitmesh bench`: measurements on a user's own footage, their tables and pictures."""
