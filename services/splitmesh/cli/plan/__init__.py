"""Owns `splitmesh plan`: making a plan of a model, and asking, checking, profiling and comparing plans."""
