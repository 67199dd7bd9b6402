"""Owns comparing the codecs of a plan with those of the picture: candidates, levels, curves."""
