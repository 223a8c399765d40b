"""The random numbers: Philox as published, never at the ends of the range, normal where they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleetcast import compiling
from fleetcast.compiling import compiled
from fleetcast.simulate import gather, physics
from fleetcast.simulate.randomness import BLOCK, fill_normals, fill_words, philox, uniform

FULL = 0xFFFFFFFF


@compiled
def _words(step: int, server: int, stream: int, sample: int, seed: int) -> Any:
    return philox(step, server, stream, sample, seed)


@compiled
def _uniform(word: Any) -> Any:
    return uniform(word)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # known answers of Random123 for Philox 4x32-10
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((FULL,) * 4, 0xFFFFFFFFFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ],
)
def test_philox_gives_the_published_answers(counter: tuple[int, ...], key: int, words: tuple[int, ...]) -> None:
    assert tuple(int(word) for word in _words(*(np.uint64(one) for one in counter), np.uint64(key))) == words


def test_uniform_numbers_are_never_at_an_end() -> None:
    assert 0 < _uniform(np.uint64(0)) < 1e-6
    assert 1 - 1e-6 < _uniform(np.uint64(FULL)) < 1


def test_normal_numbers_are_normal_and_independent() -> None:
    words, normals, found = np.empty(4 * BLOCK, np.uint32), np.zeros(4 * BLOCK, np.float32), []
    for block in range(400):
        fill_words(words, 0, block * BLOCK, BLOCK, 3, 0, 0, 11)
        fill_normals(words, normals, 0, BLOCK)
        found.append(normals[: 2 * BLOCK].reshape(2, BLOCK).copy())
    drawn = np.concatenate(found, axis=1).astype(np.float64)
    assert drawn.mean() == pytest.approx(0, abs=0.006)
    assert drawn.std() == pytest.approx(1, abs=0.005)
    assert (drawn**4).mean() == pytest.approx(3, abs=0.06)
    assert np.corrcoef(drawn)[0, 1] == pytest.approx(0, abs=0.008)
    assert np.corrcoef(drawn[0, 1:], drawn[0, :-1])[0, 1] == pytest.approx(0, abs=0.008)


def test_kept_machine_code_belongs_to_these_sources() -> None:
    for function in (physics.run_physics, gather.blank_runs):
        cache = getattr(function, "_cache", None)
        if cache is not None and hasattr(cache, "_cache_file"):
            assert cache._cache_file._source_stamp == compiling._sources(Path(physics.__file__).parent)
