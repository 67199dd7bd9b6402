"""Owns every setting: its type, unit, default and where its value came from. Refuses unknown keys."""
