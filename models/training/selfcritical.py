"""Self-critical sequence training (Rennie et al. 2017): sampled captions weighed by CIDEr-D.

Each sample's baseline is the mean reward of the image's other samples, which needs no greedy
decoding and varies less.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.decoding import END, NEVER_EMITTED
from models.training.batches import Packed, pack_captions
from models.training.cider import CiderReward

NEVER = -1.0e9
Sampled = Sequence[Sequence[Sequence[int]]]


def sample_penalty(vocabulary_size: int, *, first: bool) -> npt.NDArray[np.float32]:
    """What keeps samples from special tokens, and from ending ``first``: added to logits [V]."""
    penalty = np.zeros(vocabulary_size, np.float32)
    penalty[NEVER_EMITTED] = NEVER
    if first:
        penalty[END] = NEVER
    return penalty


def reward_samples(
    reward: CiderReward, rows: npt.NDArray[np.int64], sampled: Sampled
) -> npt.NDArray[np.float32]:
    """CIDEr-D [B, K] of the samples of images ``rows``; <end> counts as a word."""
    scores = [
        reward.score(int(row), [caption[1:] for caption in captions])
        for row, captions in zip(rows, sampled, strict=True)
    ]
    return np.asarray(scores, np.float32)


def advantages(rewards: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rewards [B, K] less the mean of the image's other samples."""
    samples = rewards.shape[1]
    others = (rewards.sum(axis=1, keepdims=True) - rewards) / (samples - 1)
    return np.asarray(rewards - others, np.float32)


def pack_samples(sampled: Sampled, advantage: npt.NDArray[np.float32]) -> Packed:
    """The samples as a batch whose weights are their advantages [B, K]."""
    packed = pack_captions(sampled)
    by_segment = np.take_along_axis(advantage, np.maximum(packed.segments, 0), axis=1)
    return packed._replace(weights=np.where(packed.weights > 0, by_segment, 0).astype(np.float32))
