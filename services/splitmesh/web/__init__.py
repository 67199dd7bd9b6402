"""Owns the HTTP pages of a process: metrics, health, readiness and status. Starlette and uvicorn live here."""
