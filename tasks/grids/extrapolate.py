"""Weights for target cells that the method itself leaves empty, from the nearest source cells."""

from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.spatial import KDTree

from . import parallel
from .request import Request
from .weights import Weights

_NEIGHBOURS = 8
_EXPONENT = 2.0
"""ESMF's defaults for ``nearest_idavg``: eight neighbours, weighed by the inverse square of the distance."""


def fill(weights: Weights, request: Request) -> Weights:
    """Give every empty row the nearest source cell, or the inverse-distance mean of the eight nearest.

    Distances are chords, as in ESMF. Source cells that do not count are no neighbours; target cells that do not count
    stay empty.
    """
    empty = weights.empty if request.target_mask is None else weights.empty & request.target_mask.ravel()
    row = np.flatnonzero(empty)
    if not row.size:
        return weights
    known = np.arange(request.source.size) if request.valid is None else np.flatnonzero(request.valid)
    count = 1 if request.extrapolate == "nearest" else min(_NEIGHBOURS, known.size)
    tree = KDTree(request.source.vectors[known])
    distance, nearest = tree.query(request.target.vectors[row], k=count, workers=parallel.cores())
    distance, nearest = distance.reshape(row.size, count), nearest.reshape(row.size, count)
    # A target on a source point takes that point alone.
    on_point = distance[:, :1] < 1e-14
    inverse = np.where(on_point, distance < 1e-14, np.where(on_point, 1.0, distance) ** -_EXPONENT)
    share = inverse / inverse.sum(axis=1, keepdims=True)
    there = share.ravel() > 0
    links = (np.repeat(row, count)[there], known[nearest].ravel()[there])
    matrix = csr_array(coo_array((share.ravel()[there], links), shape=weights.matrix.shape))
    matrix = csr_array(weights.matrix + matrix)
    matrix.sort_indices()
    return replace(weights, matrix=matrix)
