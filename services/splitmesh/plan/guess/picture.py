"""Owns guessing how a model is fed: which input is the picture, its layout and sizes, what the others get."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from splitmesh.errors import ModelError
from splitmesh.plan.guess.facts import Facts, Port, Step
from splitmesh.plan.guess.feed import CENTRED, FEW, RAW, UNIT, Range
from splitmesh.plan.manifest import MAX_PIXELS, ExtraInput, picture_layout

_SIDES = (640, 512, 416, 320, 300, 256, 224, 192, 160, 128, 112, 96, 64, 48, 32)
_CLASSIFIER_SIDES = (224, 256, 299, 240, 384, 192, 160, 128, 112, 96, 64, 48, 32, 28, 512, 640)
_LINE_WIDTHS = (320, 160, 192, 100, 128, 256, 512)
"""For pictures of a text line: their height is fixed, 32 to 64."""
_CHARACTERS = 90
"""A row of at least so many scores per step of a sequence: the model reads text."""
_LENGTHS = (16, 64, 128, 256, 512, 16_000, 1)
"""Where an input that is no picture leaves an axis open."""
_LEAST, _MOST = 8, 4096

_ONE = re.compile(r"scale|ratio|mask|temperature|dropout_keep|keep_prob")
_SIZE = re.compile(
    r"(im|img|image|orig|original|origin|target|input)_?(shape|sizes?|info|target_sizes?)|im_info|orig"
)
_LIMITS = ((re.compile(r"iou"), 0.45), (re.compile(r"score|conf"), 0.25), (re.compile(r"^max"), 100.0))


@dataclass(frozen=True, slots=True)
class Trial:
    """One size to try, in pixels. shape: of an input that is no picture, laid out on a picture of that size."""

    height: int
    width: int
    shape: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return f"{self.width}×{self.height}" if self.shape is None else "×".join(map(str, self.shape))


_LINE = Trial(48, 320)


@dataclass(frozen=True, slots=True)
class Guess:
    """How a model seems to be fed."""

    port: Port
    layout: Literal["NCHW", "NHWC", "flat"]
    channels: int
    trials: tuple[Trial, ...]
    """Best first. More than one only where the model leaves sizes open."""
    shown: Range | None
    """The range of numbers that the graph gives away, None if it does not."""
    why: str
    """Of `shown`."""
    also: tuple[Port, ...]
    """Inputs that get the picture too."""
    others: tuple[Port, ...]
    """Inputs that get a constant."""

    def extra(self, trial: Trial) -> tuple[ExtraInput, ...]:
        """The constants."""
        named = {name: size for name, size in zip(self.port.symbols, self.axes(trial), strict=True) if name}
        return tuple(_extra(port, named, trial) for port in self.others)

    def axes(self, trial: Trial) -> tuple[int, ...]:
        """The shape of the input."""
        if trial.shape is not None:
            return trial.shape
        picture = (trial.height, trial.width)
        shape = (1, self.channels, *picture) if self.layout == "NCHW" else (1, *picture, self.channels)
        return shape[-len(self.port.shape) :]


def guess_picture(facts: Facts) -> Guess:
    """The input that looks most like a picture, and the sizes it may have. Raises ModelError if all are too large."""
    ranked = sorted(facts.inputs, key=lambda port: _likeness(port, facts.opening[port.name]), reverse=True)
    port = ranked[0]
    layout, channels = _form(port, facts.opening[port.name])
    shown, why = _shown(port, facts.opening[port.name])
    if layout == "flat":
        trials = tuple(_flat_trials(port))
        shown = shown if port.is_float else FEW
    else:
        trials = tuple(_picture_trials(port, layout, facts))
    others = [each for each in facts.inputs if each is not port]
    also = [each for each in others if picture_layout(each.shape) and each.dtype_name != "bool"]
    constant = tuple(each for each in others if each not in also)
    return Guess(port, layout, channels, trials, shown, why, tuple(also), constant)


def of_one_picture(facts: Facts) -> Facts | None:
    """`facts` with a batch of 1 where the file fixes a larger one; None where it does not."""
    ports = tuple(_alone(port) if len(port.shape) == 4 else port for port in facts.inputs)
    return replace(facts, inputs=ports) if ports != facts.inputs else None


def _alone(port: Port) -> Port:
    return replace(port, shape=(port.shape[0] and 1, *port.shape[1:]))


def _likeness(port: Port, opening: tuple[Step, ...]) -> tuple[int, ...]:
    layout, channels = _form(port, opening)
    size = math.prod(n or _LEAST for n in port.shape)
    is_picture = layout != "flat"
    return is_picture, channels == 3, port.is_float, size if is_picture else size >= _LEAST


def _form(port: Port, opening: tuple[Step, ...]) -> tuple[Literal["NCHW", "NHWC", "flat"], int]:
    """Layout and channels; "flat" for what is no single picture of one or three channels.

    Without a batch axis there must be three channels; where they come last, in a tensor of open sizes, only whole
    numbers: a list of points looks like that too.
    """
    shape = port.shape
    if len(shape) == 3 and (shape[0] == 3 or None not in shape or not port.is_float):
        found = _form(replace(port, shape=(1, *shape)), opening)
        return found if found[1] == 3 else ("flat", 0)
    if len(shape) != 4 or shape[0] not in (1, None):
        return "flat", 0
    moved = any(step.perm == (0, 3, 1, 2) for step in opening)
    taken = next((step.channels for step in opening if step.op == "Conv"), None)
    last_is_likelier = moved or (shape[3] in (1, 3) and shape[1] not in (1, 3))
    order = ((3, "NHWC"), (1, "NCHW")) if last_is_likelier else ((1, "NCHW"), (3, "NHWC"))
    for axis, layout in order:
        channels = shape[axis] or (taken if taken in (1, 3) else 3)
        rows, columns = (shape[2], shape[3]) if axis == 1 else (shape[1], shape[2])
        sides_fit = all(n is None or _LEAST <= n <= _MOST for n in (rows, columns))
        if channels in (1, 3) and sides_fit:
            return ("NCHW" if layout == "NCHW" else "NHWC"), channels
    return "flat", 0


def _picture_trials(port: Port, layout: str, facts: Facts) -> list[Trial]:
    height, width = port.shape[-2:] if layout == "NCHW" else port.shape[-3:-1]
    if height is not None and width is not None:
        return [Trial(height, width)]
    said = _metadata_size(facts)
    if height is None and width is None:
        sides = [Trial(side, side) for side in _sides(facts)]
        if any(len(port.shape) == 3 and (port.shape[2] or 0) > _CHARACTERS for port in facts.outputs):
            sides.insert(0, _LINE)
        return _unique([*([Trial(*said)] if said else []), *sides])
    if width is None and height is not None:
        lines = [*_LINE_WIDTHS] if 32 <= height <= 64 else []
        return _unique(Trial(height, side) for side in [*(said[1:] if said else ()), *lines, height, *_sides(facts)])
    return _unique(Trial(side, width or side) for side in [*(said[:1] if said else ()), width or 1, *_sides(facts)])


def _sides(facts: Facts) -> tuple[int, ...]:
    flat = all(len(port.shape) <= 2 for port in facts.outputs)
    return _CLASSIFIER_SIDES if flat and "NonMaxSuppression" not in facts.operators else _SIDES


def _metadata_size(facts: Facts) -> tuple[int, int] | None:
    """(height, width) that Ultralytics writes into its files."""
    sides = facts.said("imgsz")
    if isinstance(sides, int):
        sides = [sides, sides]
    if isinstance(sides, list | tuple) and len(sides) == 2:
        height, width = sides
        if all(isinstance(n, int) and _LEAST <= n <= _MOST for n in sides):
            return height, width
    return None


def _flat_trials(port: Port) -> list[Trial]:
    shapes = [tuple(n or (1 if axis == 0 else length) for axis, n in enumerate(port.shape)) for length in _LENGTHS]
    fit = [shape for shape in shapes if math.prod(shape) <= 3 * MAX_PIXELS]
    if not fit:
        raise ModelError(
            f"input {port.name} takes {math.prod(shapes[0])} numbers, more than the {3 * MAX_PIXELS} of a picture",
            advice="export the model for a smaller input",
        )
    return _unique(sheet(shape) for shape in fit)


def sheet(shape: tuple[int, ...]) -> Trial:
    """A nearly square picture that holds at least as many numbers as `shape`."""
    width = min(_MOST, max(_LEAST, math.isqrt(-(-math.prod(shape) // 3))))
    return Trial(max(_LEAST, -(-math.prod(shape) // (3 * width))), width, shape)


def _unique(trials: Iterable[Trial]) -> list[Trial]:
    return list(dict.fromkeys(trials))


def _shown(port: Port, opening: tuple[Step, ...]) -> tuple[Range | None, str]:
    """The range that element type or first operators give away, with the reason."""
    if not port.is_float:
        signed = port.dtype_name == "int8"
        return (CENTRED if signed else RAW), f"because the input is {port.dtype_name}"
    for step in opening:
        if step.mean is not None:
            level = float(abs(step.mean).mean())
            if level >= 20:
                return RAW, f"because the graph first normalises numbers around {level:.0f}"
            if 0.2 <= level <= 0.8:
                return UNIT, f"because the graph first normalises numbers around {level:.2f}"
        if step.values is not None and step.values.size:
            found = _told(step.op, float(abs(step.values).mean()))
            if found is not None:
                shown = f"{step.values.ravel()[0]:.4g}"
                return found, f"because the graph itself starts with {step.op} {shown}"
    return None, ""


def _told(op: str, level: float) -> Range | None:
    """What a first `op` with constants of mean magnitude `level` expects: 255 and its kin, means, deviations."""
    if op in ("Mul", "Div"):
        factor = level if op == "Mul" else 1 / level if level else 0.0
        if 0 < factor <= 0.025:
            return RAW
        return UNIT if factor >= 1.5 else None
    if level >= 50:
        return RAW
    return UNIT if 0.2 <= level <= 0.8 else None


def _extra(port: Port, axes: Mapping[str, int], trial: Trial) -> ExtraInput:
    """Sizes of the picture for what is called so, ones for scales and masks, zeros else. axes: sizes by symbol."""
    shape = tuple(n or axes.get(name, 1) for n, name in zip(port.shape, port.symbols, strict=True))
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", port.name).lower()
    count = math.prod(shape)
    value: float | tuple[float, ...] = 0.0
    if _SIZE.search(name) and count in (2, 3):
        value = (float(trial.height), float(trial.width), 1.0)[:count]
    elif _ONE.search(name):
        value = 1.0
    else:
        value = next((limit for pattern, limit in _LIMITS if pattern.search(name)), 0.0)
    open_axes = any(n is None for n in port.shape)
    return ExtraInput(name=port.name, value=value, shape=shape if open_axes else None)
