"""Words, token numbers, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.errors import InputError, ModelError
from models.tokenizer import END, START, UNKNOWN, Tokenizer, join_words, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A child in a pink dress .", "a child in a pink dress"),
        ("The man's dog doesn't run!", "the man 's dog does n't run"),
        ('Two girls, "hand in hand"; smiling...', "two girls hand in hand smiling"),
        ("A black-and-white t-shirt", "a black-and-white t-shirt"),
        ("1,000 people at 10:30", "1,000 people at 10:30"),
        ("They cannot swim", "they can not swim"),
        ("caf\u00e9 at o'clock", "caf\u00e9 at o'clock"),
        (" . ", ""),
    ],
)
def test_captions_are_split_as_the_scorers_split_them(text: str, words: str) -> None:
    assert " ".join(split_words(text)) == words


def test_clitics_are_joined_to_the_word_before() -> None:
    assert join_words(["the", "man", "'s", "dog", "does", "n't", "run"]) == (
        "the man's dog doesn't run"
    )


def test_rare_words_become_unknown() -> None:
    tokenizer = Tokenizer.from_captions(["a dog", "a dog", "a cat"], min_count=2)
    assert tokenizer.encode("a cat", max_length=9) == [START, 4, UNKNOWN, END]


def test_a_long_caption_is_cut_and_still_ends() -> None:
    tokenizer = Tokenizer(["a"])
    assert tokenizer.encode("a a a a a", max_length=4) == [START, 4, 4, END]


def test_decoding_stops_at_the_end_and_writes_no_special_token() -> None:
    tokenizer = Tokenizer(["a", "dog"])
    assert tokenizer.decode([START, 4, UNKNOWN, 5, END, 4]) == "a dog"


def test_the_most_frequent_words_come_first_and_equals_in_order_of_the_alphabet() -> None:
    tokenizer = Tokenizer.from_captions(["b a c c", "b a c"], min_count=1)
    assert tokenizer.words[4:] == ("c", "a", "b")


def test_captions_without_a_frequent_word_are_refused() -> None:
    with pytest.raises(InputError, match="vocabulary is empty"):
        Tokenizer.from_captions(["a dog"], min_count=2)


def test_a_saved_tokenizer_reads_back_the_same(tmp_path: Path) -> None:
    tokenizer = Tokenizer(["a", "caf\u00e9"])
    tokenizer.save(tmp_path / "tokenizer.json")
    assert Tokenizer.load(tmp_path / "tokenizer.json").words == tokenizer.words


def test_another_file_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ModelError, match="is not a tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json")
