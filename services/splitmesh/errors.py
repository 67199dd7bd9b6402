"""The one tree of errors. Foreign errors become one of these at the border of the adapter that met them.

Facts are attributes; nobody branches on message text. `advice` says what the user can do.
"""

from __future__ import annotations


class MeshError(Exception):
    """Anything splitmesh raises on purpose. `retryable`: the same call may succeed later."""

    retryable = False

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message} ({self.advice})" if self.advice else self.message


class SettingsError(MeshError):
    """A setting is unknown or breaks a rule; `key` names it."""

    def __init__(self, message: str, *, key: str, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.key = key


class SourceError(MeshError):
    """A video source can't be opened or read; `url` names it."""

    def __init__(self, message: str, *, url: str, retryable: bool = False, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.url = url
        self.retryable = retryable


class DecodeError(MeshError):
    """Bytes of a video can't be decoded."""


class FrameShapeError(MeshError):
    """An array does not have the shape or dtype that the callee documents."""


class ModelError(MeshError):
    """A model, manifest or plan bundle is missing, wrong or not what it says."""


class WireError(MeshError):
    """A message from another process is malformed."""


class CodecError(WireError):
    """A payload is malformed, or a tensor can't be coded."""


class NeedKeyframe(CodecError):
    """The payload builds on a frame that this decoder does not hold: the next one must stand on its own."""


class NeedTable(CodecError):
    """The payload names a calibration table that this decoder does not hold; `table_id` is what it says of it."""

    def __init__(self, message: str, *, table_id: bytes, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.table_id = table_id


class InferenceError(MeshError):
    """The runtime failed, or an output holds NaN/Inf."""


class Overloaded(MeshError):
    """There is no room for more at the moment."""

    retryable = True


class OutputError(MeshError):
    """A file or folder can't be written; `path` names it."""

    def __init__(self, message: str, *, path: str, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.path = path


class BusError(MeshError):
    """The bus refused or lost a message."""

    retryable = True


class BusUnavailable(BusError):
    """No connection to the broker."""


class NoResponders(BusError):
    """Nobody listens on the subject."""


class RequestTimeout(BusError):
    """No reply came in time."""


class PayloadTooLarge(BusError):
    """The message exceeds the broker's limit."""

    retryable = False


class AccessDenied(MeshError):
    """Whoever asks did not show a token that is known here, or may not ask for this."""


class UnknownName(MeshError):
    """Nothing that this tenant may see has that name; `field` says of what kind, `name` which."""

    def __init__(self, message: str, *, field: str, name: str, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.field = field
        self.name = name
