"""Links as values: traces, their text formats, and presets."""
