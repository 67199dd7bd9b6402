"""A load tester for media meshes: open loop, aware of deadlines, honest about its own limits."""
