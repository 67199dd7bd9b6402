"""Owns how often a JPEG would have its decoder go over the whole picture. Reads markers alone, decodes nothing.

A progressive file may hold thousands of scans of a dozen bytes each, every one of which costs as much time as a
picture: "Two issues with the JPEG standard", 2013, https://libjpeg-turbo.org/pmwiki/uploads/About/TwoIssueswiththeJPEGStandard.pdf.
"""

from __future__ import annotations

import re
from typing import Final

from splitmesh.codec.container import Buffer

MAX_SCANS: Final = 100
"""Encoders write about ten."""
_MAX_SEGMENTS: Final = 4096
"""Before the picture's end, of any kind."""

_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
"""With a segment after it; what is stuffed, and restarts, have none."""
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


def too_many_scans(jpeg: Buffer) -> bool:
    """`jpeg` holds more than MAX_SCANS scans, or so many segments that nobody should count them."""
    at, scans = 2, 0
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(jpeg, at)
        if marker is None or (kind := jpeg[marker.start() + 1]) == _END_OF_IMAGE:
            return False
        scans += kind == _START_OF_SCAN
        if scans > MAX_SCANS:
            return True
        at = marker.end() + max(2, int.from_bytes(jpeg[marker.end() : marker.end() + 2], "big"))
    return True
