"""Words to token numbers and back, split as the standard caption scorers split them.

The Penn Treebank (PTB) rules that matter for captions: lower case, clitics apart ("man 's",
"do n't"), punctuation dropped as pycocoevalcap's ``PTBTokenizer`` drops it. No Java is needed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from conf.errors import InputError, ModelError

PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIAL_TOKENS = ("<pad>", "<start>", "<end>", "<unk>")

_CLITIC = re.compile(r"(?<=[a-z])(n't|'s|'re|'ve|'ll|'d|'m)\b")
_SPLIT_WORDS = {"cannot": ["can", "not"], "gonna": ["gon", "na"], "gotta": ["got", "ta"]}
_WORD = re.compile(
    r"n't\b|'(?:s|re|ve|ll|d|m)\b"  # clitics, set apart before
    r"|\d+(?:[.,:/]\d+)+"  # 1,000 and 3.5 and 10:30 and 1/2
    r"|[a-z](?:\.[a-z])+\.?"  # u.s.
    r"|[^\W_]+(?:[-'/_&][^\W_]+)*"  # t-shirt, o'clock, black/white
    r"|[#$%&@*+=]"
)


def split_words(text: str) -> list[str]:
    """Split a caption into PTB-like lower-case words without punctuation."""
    lowered = text.lower().replace("\u2019", "'").replace("`", "'")
    words = _WORD.findall(_CLITIC.sub(r" \1", lowered))
    return [part for word in words for part in _SPLIT_WORDS.get(word, [word])]


def join_words(words: Iterable[str]) -> str:
    """Write words as one line of text, clitics joined to the word before."""
    return re.sub(r" (n't|'(?:s|re|ve|ll|d|m))\b", r"\1", " ".join(words))


class Tokenizer:
    """A fixed word list: ``<pad>`` 0, ``<start>`` 1, ``<end>`` 2, ``<unk>`` 3, then words."""

    def __init__(self, words: Sequence[str]) -> None:
        """Take the vocabulary without the special tokens, most frequent word first."""
        self.words = (*SPECIAL_TOKENS, *words)
        self._numbers = {word: number for number, word in enumerate(self.words)}
        if len(self._numbers) != len(self.words):
            raise ModelError("The vocabulary lists a word twice.", remedy="Train the model anew.")

    @classmethod
    def from_captions(cls, captions: Iterable[str], *, min_count: int = 4) -> Tokenizer:
        """Keep every word seen at least ``min_count`` times; raises InputError when none is."""
        counts = Counter(word for caption in captions for word in split_words(caption))
        kept = [(-n, word) for word, n in counts.items() if n >= min_count]
        if not kept:
            raise InputError(
                f"No word occurs {min_count} times in the captions, so the vocabulary is empty.",
                remedy="Give more captions or a lower --min-word-count.",
            )
        return cls([word for _, word in sorted(kept)])

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens, the four special ones included."""
        return len(self.words)

    def encode(self, text: str, *, max_length: int) -> list[int]:
        """Token numbers of a caption, ``<start>`` first and ``<end>`` last, cut to max_length."""
        words = [self._numbers.get(word, UNKNOWN) for word in split_words(text)]
        return [START, *words[: max_length - 2], END]

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of token numbers up to the first ``<end>``; special tokens are never written."""
        words = []
        for token in tokens:
            if token == END:
                break
            if token > UNKNOWN:
                words.append(self.words[token])
        return join_words(words)

    def save(self, path: Path) -> None:
        """Write the word list as JSON."""
        document = {"format": "words-ptb-lower", "words": self.words[len(SPECIAL_TOKENS) :]}
        path.write_text(json.dumps(document, ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a word list that ``save`` wrote; raises ModelError when it isn't one."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != "words-ptb-lower":
                raise ValueError(document["format"])
            return cls(document["words"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path} is not a tokenizer of this software ({error}).",
                remedy="Give a package that train_captioner wrote.",
            ) from error
