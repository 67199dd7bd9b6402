"""Owns reading what has a place in the picture: heatmaps of centres and class maps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.errors import ModelError
from splitmesh.frames.answer import F32, Answer
from splitmesh.plan.answers.outputs import (
    Indices,
    Outputs,
    best,
    centre_to_corners,
    sigmoid,
    suppress,
    take,
    take_any,
)
from splitmesh.plan.manifest_kinds import CenternetPostprocess, SegmentationPostprocess

# exp() of more than this is far beyond any picture; the bound keeps float32 finite.
_MAX_LOG_SIZE = 20.0


@dataclass(frozen=True, slots=True)
class Centernet:
    """From heatmap, size and offset to an answer: Zhou et al. 2019, Objects as Points, section 4."""

    post: CenternetPostprocess
    labels: int
    width: int
    height: int

    def __call__(self, outputs: Outputs) -> Answer:
        post = self.post
        heat = self._take(outputs, post.heatmap, self.labels)
        classes, cells, values = self._peaks(heat)
        if not len(cells):
            return Answer.empty()
        cells, classes, values = best(post.max_candidates, values, cells, classes)
        scores = sigmoid(values) if post.activation == "sigmoid" else np.minimum(values, 1)
        rows, columns = np.divmod(cells, heat.shape[2])
        grid = np.array([heat.shape[2], heat.shape[1]], np.float32)
        centres = np.stack([columns, rows], axis=1).astype(np.float32)
        if post.offset is not None:
            centres += self._pairs(outputs, post.offset, heat, rows, columns)
        else:
            centres += 0.5
        size = self._pairs(outputs, post.size, heat, rows, columns)
        size = np.exp(np.minimum(size, _MAX_LOG_SIZE)) if post.size_activation == "exp" else np.maximum(size, 0)
        unit = grid if post.size_unit == "cells" else np.array([self.width, self.height], np.float32)
        boxes = centre_to_corners(np.concatenate([centres / grid, size / unit], axis=1))
        return suppress(post, boxes, scores, classes)

    def _peaks(self, heat: F32) -> tuple[Indices, Indices, F32]:
        """(class, cell, value) of what scores enough and is nowhere exceeded among its 3 x 3 neighbours."""
        threshold = self.post.score_threshold
        level = math.log(threshold / (1 - threshold)) if self.post.activation == "sigmoid" else threshold
        classes, rows, columns = np.nonzero(heat >= level)
        values = heat[classes, rows, columns]
        highest = values.copy()
        for step_y in (-1, 0, 1):
            for step_x in (-1, 0, 1):
                y = np.clip(rows + step_y, 0, heat.shape[1] - 1)
                x = np.clip(columns + step_x, 0, heat.shape[2] - 1)
                np.maximum(highest, heat[classes, y, x], out=highest)
        top = values >= highest
        return classes[top], (rows * heat.shape[2] + columns)[top], values[top]

    def _pairs(self, outputs: Outputs, name: str, heat: F32, rows: Indices, columns: Indices) -> F32:
        """(K, 2) x y of a map of two channels at these cells."""
        value = self._take(outputs, name, 2)
        if value.shape[1:] != heat.shape[1:]:
            raise ModelError(
                f"outputs {self.post.heatmap!r} and {name!r} are maps of {heat.shape[1:]} and {value.shape[1:]}"
            )
        pairs: F32 = value[:, rows, columns].T
        return pairs if self.post.order == "xy" else pairs[:, ::-1]

    def _take(self, outputs: Outputs, name: str, channels: int) -> F32:
        if self.post.layout == "NHWC":
            last: F32 = take(outputs, name, (1, None, None, channels))[0]
            return last.transpose(2, 0, 1)
        first: F32 = take(outputs, name, (1, channels, None, None))[0]
        return first


@dataclass(frozen=True, slots=True)
class Segmentation:
    """From scores per class, or from a class map, to an answer with `mask`."""

    post: SegmentationPostprocess
    labels: int

    def __call__(self, outputs: Outputs) -> Answer:
        dtype = np.uint8 if self.labels <= 256 else np.uint16
        mask = self._labels(outputs) if self.post.holds == "labels" else self._best(outputs)
        return Answer.of_tensors({"mask": mask.astype(dtype)})

    def _labels(self, outputs: Outputs) -> npt.NDArray[Any]:
        value = take_any(outputs, self.post.output)
        sizes = [n for n in value.shape if n != 1]
        shape = value.shape[-2:] if len(sizes) < 2 else tuple(sizes)
        if len(shape) != 2:
            raise ModelError(f"output {self.post.output!r} has shape {value.shape}, not that of a map (h, w)")
        labels: npt.NDArray[Any] = np.clip(np.rint(value.reshape(shape)), 0, self.labels - 1)
        return labels

    def _best(self, outputs: Outputs) -> npt.NDArray[Any]:
        post = self.post
        axis = 1 if post.layout == "NCHW" else 3
        value = take(outputs, post.output, (1, None, None, None))
        channels = value.shape[axis]
        if channels != self.labels and (channels, self.labels) != (1, 2):
            raise ModelError(
                f"output {post.output!r} has shape {value.shape}, that is {channels} channels ({post.layout}); "
                f"the manifest has {self.labels} labels"
            )
        if channels > 1:
            winners: npt.NDArray[Any] = value.argmax(axis=axis)[0]
            return winners
        level = math.log(post.threshold / (1 - post.threshold)) if post.activation == "sigmoid" else post.threshold
        plane: npt.NDArray[Any] = np.squeeze(value, axis=axis)[0] >= level
        return plane
