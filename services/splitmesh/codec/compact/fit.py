"""Owns fitting a cut's calibration table to features of real frames. Runs no model: the metric is handed in.

The transform is the Karhunen-Loève transform in the metric of the answer: with S the covariance of a tensor's
channels and M how much noise in them costs the answer (`inference.planning.sensitivity`), the eigenvectors U of
M^½ S M^½ give analysis Uᵀ M^½ and synthesis M^-½ U. Noise of the same size in any component then costs the same, so
equal steps are optimal at high rate (Gersho & Gray, "Vector Quantization and Signal Compression", 1992, §8.3).
Where the answer's feeling for spatial frequencies is known as well, planes go by frequency if that pays
(`fit_frequencies`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.fit_frequencies import weights_of
from splitmesh.codec.compact.frequencies import Frequencies, cosines, sizes_of
from splitmesh.codec.compact.intra import kept_scale, symbols_of
from splitmesh.codec.compact.table import CompactTable, inverse, storable
from splitmesh.codec.compact.transform import MAX_CHANNELS, MAX_CODED, UNIT, TensorTable, step_of
from splitmesh.codec.planes.fit import fit_plane_model
from splitmesh.codec.planes.model import PlaneExample
from splitmesh.errors import CodecError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

FIT_LEVELS: Final = (74, 82, 90)
"""Levels whose integers the entropy model is fitted to: an octave of the step apart, where answers are in use."""
LARGEST_UNITS: Final = 256.0
"""Standard deviation of a cut's largest component, in units."""
LARGEST_COEFFICIENT: Final = 4096.0
"""Root mean square of the largest weighed coefficient, in units, at most: eight times as much fits 16 bits at a step
of one unit."""
REGULAR: Final = 0.3
"""Share of the mean channel's weight that every direction has at least: what the metric's sample did not show
matter may matter elsewhere."""
MOST_COMPONENTS: Final = 256
"""More than a classifier's late bottlenecks have channels, since all their components are worth something: with 128
of 160, MobileNetV2 at 160 × 7 × 7 gave 0.80 of the same answers on photographs at fine steps, with all of them 0.91.
"""
LARGEST_MATRIX: Final = 1 << 17
"""Components times channels, of a tensor: half a mebibyte of table, so that it fits into a message."""
LARGEST_WEIGHED: Final = 750_000
"""Bytes of matrices and of what is said of frequencies, of a tensor: next to a pool all components matter, in few
coefficients, and a table still fits into a message."""
UNSEEN: Final = 0.05
"""Of the mean component's size at a frequency, that each has at least: what calibration's frames did not move is not
left out of every other frame. Without, a table fitted to four clips gave at most 0.87 of the answers on photographs.
"""
_SMALLEST_SHARE: Final = 1e-7
"""Of the largest component's variance; components with less are left out."""


class _Basis(NamedTuple):
    axis: int
    mean: F64
    analysis: F64
    synthesis: F64
    variances: F64


def fit_table(
    features: Mapping[str, F32],
    metrics: Mapping[str, F64] | None = None,
    by_frequency: Mapping[str, F64] | None = None,
) -> CompactTable:
    """The table of a cut. features: wire name → (N, …) float32, N frames of each tensor, without NaN or Inf.

    metrics: wire name → (C, C) symmetric positive semidefinite, C along `channel_axis`; None, or a tensor that is
    missing: all its channels weigh the same, relative to the tensor's largest component. by_frequency: wire name →
    (H, W) what noise at each frequency of cosines costs, ≥ 0, relative to noise of all; a tensor that is missing: the
    same at all of them.
    Deterministic: the same arguments give the same bytes. Raises CodecError for features that no table can hold.
    """
    bases = {name: _fit_basis(name, frames, (metrics or {}).get(name)) for name, frames in features.items()}
    largest = max(basis.variances[0] for basis in bases.values())
    unit = float(np.sqrt(largest)) / LARGEST_UNITS if largest > 0 else 1.0
    plain = [_fit_tensor(name, features[name], basis, unit) for name, basis in bases.items()]
    weights = _weights(plain, features, by_frequency or {})
    tallest = max((_tallest(tensor, features[tensor.name], weights) for tensor in plain), default=0.0)
    unit *= max(1.0, tallest / LARGEST_COEFFICIENT)
    tensors = tuple(
        _fit_weighed(name, features[name], basis, unit, weights[name])
        if name in weights
        else _fit_tensor(name, features[name], basis, unit)
        for name, basis in bases.items()
    )
    examples = [
        _example(tensor, frame[None], level, place)
        for place, tensor in enumerate(tensors)
        for frame in features[tensor.name]
        for level in FIT_LEVELS
    ]
    return CompactTable(tensors, fit_plane_model(examples, unlinked=by_frequency_of(tensors)))


def by_frequency_of(tensors: Sequence[TensorTable]) -> list[int]:
    """Places of those with weighed frequencies: coefficients foretell nothing of each other that a line could catch.

    Predictions took 2 to 15 % more bytes behind SqueezeNet's last fire module.
    """
    return [place for place, tensor in enumerate(tensors) if tensor.frequencies is not None]


def channel_axis(frames: F32) -> int:
    """Which axis of frames (N, …) holds the channels: 1, the last, or 0 where too few frames tell them apart.

    Four axes: the last where the two before it are equal, as in (1, H, W, C). Three, (1, N, C) or (1, C, L): the one
    whose principal components promise fewer bits.
    """
    last = frames.ndim - 1
    if frames.ndim < 2 or not frames.size:
        raise CodecError(f"features of shape {frames.shape} have no channels")
    axes = [1] if last == 1 else [1, last]
    if last == 3:
        axes = [3] if frames.shape[1] == frames.shape[2] != frames.shape[3] else [1]
    enough = [a for a in axes if 4 * frames.shape[a] ** 2 <= frames.size and frames.shape[a] <= MAX_CHANNELS]
    return min(enough, key=lambda axis: _promised_bits(frames, axis)) if enough else 0


def _promised_bits(frames: F32, axis: int) -> float:
    """Mean bits of an element at 30 dB: half the logarithm of the variance of its component above the noise's."""
    _, covariance = _moments(frames, axis)
    variances = np.maximum(np.linalg.eigvalsh(covariance), 0)
    return float(np.log2(1 + 1000 * variances / max(float(variances.mean()), 1e-300)).mean() / 2)


def _moments(frames: F32, axis: int) -> tuple[F64, F64]:
    """(C,) mean and (C, C) covariance of the channels along `axis`, over frames and positions."""
    if axis == 0:
        flat = frames.astype(np.float64).reshape(1, -1)
    else:
        flat = np.moveaxis(frames, axis, 0).astype(np.float64).reshape(frames.shape[axis], -1)
    mean = flat.mean(axis=1)
    flat -= mean[:, None]
    return mean, flat @ flat.T / flat.shape[1]


def _fit_basis(name: str, frames: F32, metric: F64 | None) -> _Basis:
    if not np.isfinite(frames).all():
        raise CodecError(f"features of tensor {name!r} hold NaN or Inf")
    axis = channel_axis(frames)
    mean, covariance = _moments(frames, axis)
    channels = len(mean)
    known = metric is not None and axis > 0 and float(np.trace(metric)) != 0
    root, back = _roots(name, metric, channels) if metric is not None and known else (np.eye(channels),) * 2
    variances, directions = np.linalg.eigh(root @ covariance @ root)
    order = np.argsort(-variances, kind="stable")
    variances, directions = np.maximum(variances[order], 0), directions[:, order]
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(channels)])
    directions = directions * np.where(signs == 0, 1, signs)
    if not known:  # without a metric tensors are comparable only by what they hold
        share = np.sqrt(variances[0]) if variances[0] > 0 else 1.0
        root, back, variances = root / share, back * share, variances / share**2
    return _Basis(axis, mean, directions.T @ root, back @ directions, variances)


def _roots(name: str, metric: F64, channels: int) -> tuple[F64, F64]:
    """Square root of the regularised metric, and the inverse of it."""
    if metric.shape != (channels, channels) or not np.isfinite(metric).all():
        raise CodecError(f"the metric of tensor {name!r} is {metric.shape}, its features have {channels} channels")
    even = np.eye(channels) * float(np.trace(metric)) / channels
    weights, vectors = np.linalg.eigh(metric + REGULAR * even)
    return vectors * np.sqrt(weights) @ vectors.T, vectors / np.sqrt(weights) @ vectors.T


def _fit_tensor(name: str, frames: F32, basis: _Basis, unit: float, *, whole: bool = False) -> TensorTable:
    """whole: all components, whatever they hold."""
    channels, positions = len(basis.mean), frames[0].size // len(basis.mean)
    most = min(MOST_COMPONENTS, LARGEST_MATRIX // channels)
    known = max(1, int(np.count_nonzero(basis.variances > _SMALLEST_SHARE * basis.variances[0])))
    kept = min(channels if whole else min(most, known), max(1, MAX_CODED // positions))
    shape = (1, *frames.shape[1:])
    analysis = storable(basis.analysis[:kept] / unit)
    synthesis = np.ascontiguousarray(storable(basis.synthesis[:, :kept].T * unit).T)
    mean = basis.mean.astype(np.float32)
    table = TensorTable(name, shape, basis.axis, mean, analysis, synthesis, np.zeros(kept, np.int32))
    total = np.zeros(kept)
    for frame in frames:
        total += np.abs(table.forward(frame[None])).mean(axis=(1, 2), dtype=np.float64)
    spread = np.minimum.accumulate(np.rint(UNIT * total / len(frames)).astype(np.int32))
    return replace(table, spread=spread)


def _weights(plain: Sequence[TensorTable], features: Mapping[str, F32], costs: Mapping[str, F64]) -> dict[str, F32]:
    """Of the frequencies of those tensors where weighing them pays."""
    found = {
        tensor.name: weights_of(_coefficients(tensor, features[tensor.name]), costs[tensor.name])
        for tensor in plain
        if tensor.name in costs
    }
    return {name: weights for name, weights in found.items() if weights is not None}


def _coefficients(tensor: TensorTable, frames: F32) -> list[F32]:
    return [cosines(tensor.forward(frame[None])) for frame in frames]


def _tallest(tensor: TensorTable, frames: F32, weights: Mapping[str, F32]) -> float:
    """Root mean square of the largest weighed coefficient, in units; 0 without weights."""
    if tensor.name not in weights:
        return 0.0
    squares = [np.square(each * weights[tensor.name], dtype=np.float64) for each in _coefficients(tensor, frames)]
    return float(np.sqrt(np.mean(squares, axis=0).max()))


def _fit_weighed(name: str, frames: F32, basis: _Basis, unit: float, weights: F32) -> TensorTable:
    """With weighed frequencies: all components, or those with the largest coefficients if that is too large a table;
    these first in any case."""
    tensor = _fit_tensor(name, frames, basis, unit, whole=True)
    magnitudes = [np.abs(each, dtype=np.float64) for each in _coefficients(tensor, frames)]
    typical = np.mean(magnitudes, axis=0) * weights * UNIT
    sizes = sizes_of(np.maximum(typical, UNSEEN * typical.mean(axis=0)))
    order = np.argsort(-sizes.max(axis=(1, 2)).astype(np.int64), kind="stable")
    c = tensor.channels
    whole = len(order) == c and c * (2 * c + weights.size) <= LARGEST_WEIGHED
    order = order if whole else order[: max(1, min(c - 1, LARGEST_WEIGHED // (4 * c + weights.size)))]
    analysis = np.ascontiguousarray(tensor.analysis[order])
    by = Frequencies(weights, np.ascontiguousarray(sizes[order]))
    return replace(
        tensor,
        analysis=analysis,
        synthesis=inverse(analysis) if whole else np.ascontiguousarray(tensor.synthesis[:, order]),
        spread=np.rint(by.spread.mean(axis=(1, 2))).astype(np.int32),
        frequencies=by,
    )


def _example(tensor: TensorTable, frame: F32, level: int, place: int) -> PlaneExample:
    scale = kept_scale(tensor, level)
    return PlaneExample(symbols_of(tensor, tensor.forward(frame, len(scale)), step_of(level)), scale, None, place)
