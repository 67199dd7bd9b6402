"""Owns the `splitmesh` command: it reads settings, starts the deployables and answers questions about runs."""
