"""Owns traces, metrics and logs: OpenTelemetry and Prometheus live here. Refuses to fail a frame for their sake."""
