"""What the training loop is made of, without a network."""

from __future__ import annotations

import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.cider.cider_scorer import CiderScorer

from conf.errors import InputError
from models.tokenizer import END, START, UNKNOWN
from models.training.augment import augment_batch
from models.training.batches import pack_captions, rows_of_step
from models.training.cider import CiderReward
from models.training.plan import Phase
from models.training.selfcritical import advantages, pack_samples
from models.training.shards import MappedRows, Shards
from tests.tiny_model import SIDE, random_pixels
from tests.training_data import make_shards


def test_captions_of_an_image_lie_side_by_side_in_one_row() -> None:
    packed = pack_captions([[[START, 5, END], [START, 6, 7, END]]])
    assert packed.tokens[0].tolist() == [START, 5, START, 6, 7, 0, 0, 0]
    assert packed.targets[0].tolist() == [5, END, 6, 7, END, 0, 0, 0]
    assert packed.positions[0].tolist() == [0, 1, 0, 1, 2, 0, 0, 0]
    assert packed.segments[0].tolist() == [0, 0, 1, 1, 1, -1, -1, -1]


def test_nothing_is_learnt_from_padding_or_unknown_words() -> None:
    packed = pack_captions([[[START, UNKNOWN, 5, END]]])
    assert packed.weights[0].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order() -> None:
    epochs = [
        np.concatenate([rows_of_step(s, images=12, batch_images=4, seed=1) for s in steps])
        for steps in (range(3), range(3, 6))
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert epochs[0].tolist() != epochs[1].tolist()


def test_the_reward_is_the_cider_of_the_standard_scorer() -> None:
    random = np.random.default_rng(0)
    said = [random.integers(4, 9, 8).tolist() for _ in range(20)]
    references = [[random.integers(4, 9, 7).tolist() for _ in range(3)] for _ in range(20)]
    scorer = CiderScorer(n=4, sigma=6.0)
    for caption, known in zip(said, references, strict=True):
        scorer += (_text(caption), [_text(reference) for reference in known])
    reward = CiderReward(references.__getitem__, images=len(references))
    scores = [score for image, one in enumerate(said) for score in reward.score(image, [one])]
    np.testing.assert_allclose(scores, scorer.compute_score()[1], rtol=1e-6)


def test_the_reward_of_many_images_keeps_little_of_each() -> None:
    random = np.random.default_rng(1)

    def references(image: int) -> list[list[int]]:
        mine = np.random.default_rng(image)
        return [mine.integers(4, 5000, 12).tolist() for _ in range(5)]

    tracemalloc.start()
    reward = CiderReward(references, images=2000)
    kept, most = (size / 2000 for size in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    assert kept < 1_000  # bytes; all n-grams of five captions would be 30,000
    assert most < 12_000
    caption = references(7)[0]
    strange = random.integers(4, 5000, 12).tolist()
    scores = reward.score(7, [caption, strange])
    assert scores[0] > 1 > scores[1]


def _text(tokens: list[int]) -> str:
    return " ".join(map(str, tokens))


def test_a_sample_is_weighed_against_the_others_of_its_image() -> None:
    weights = advantages(np.array([[1.0, 0.0, 0.5]], np.float32))
    np.testing.assert_allclose(weights, [[0.75, -0.75, 0.0]])


def test_every_word_of_a_sample_carries_its_advantage() -> None:
    packed = pack_samples([[[START, 5, END], [START, 6, END]]], np.array([[2.0, -2.0]], np.float32))
    assert packed.weights[0].tolist() == [2, 2, -2, -2, 0, 0, 0, 0]


def test_augmented_copies_follow_from_their_seeds() -> None:
    pixels = random_pixels(2)
    first = augment_batch(pixels, seeds=np.array([1, 2]))
    again = augment_batch(pixels, seeds=np.array([1, 2]))
    other = augment_batch(pixels, seeds=np.array([3, 4]))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_augmentation_never_mirrors() -> None:
    image = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    image[:, :, SIDE // 2 :] = 200
    for seed in range(20):
        copy = augment_batch(image, seeds=np.array([seed]))[0].mean(axis=(0, 2))
        assert copy[0] < copy[-1]


def test_shards_give_back_rows_in_the_order_asked(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, images=7)
    everything = shards.pixels.take(range(7))
    np.testing.assert_array_equal(shards.pixels.take([5, 0, 5]), everything[[5, 0, 5]])


def test_more_parts_are_read_than_files_may_be_open(tmp_path: Path) -> None:
    paths = [tmp_path / f"part-{number:05d}.npy" for number in range(40)]
    for number, path in enumerate(paths):
        np.save(path, np.full((2, 3), number, np.uint8))
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (tmp_path / "next").open("w") as file:  # takes the lowest free number
        lowest_free = file.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 8, most))
    try:
        taken = MappedRows(paths).take(np.arange(80)[::-1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))
    np.testing.assert_array_equal(taken[:, 0], np.arange(80)[::-1] // 2)


def test_shards_of_other_photographs_have_another_fingerprint(tmp_path: Path) -> None:
    one, same, other = (
        make_shards(tmp_path / name, images=4, seed=seed).fingerprint
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert one == same != other


def test_an_index_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        make_shards(tmp_path, images=2)
    with pytest.raises(InputError, match="no finished shards"):
        Shards(tmp_path)


def test_the_rate_warms_up_and_then_falls() -> None:
    phase = Phase("frozen", epochs=1, learning_rate=1.0, warmup_steps=10)
    rates = [phase.rate_at(step, total_steps=100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates[9:] == sorted(rates[9:], reverse=True)
