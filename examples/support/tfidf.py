"""TF-IDF in plain Python: which group of texts does a new text resemble most?

A text becomes a vector of weighted words, a group the mean direction of its texts, and the answer is the cosine between
them. It is fast, needs nothing, and understands nothing: it only sees which words are shared.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

_COMMON = (
    "a about after all also am an and any are as ask at be been but by can could did do does done for from get got had "
    "has have how i if in into is it its just like many me more much my need no not of on one or our out please really "
    "since so some still than that the their them then there they this to two us very want was we were what when where "
    "which who why will with would you your"
)
STOP_WORDS = frozenset(_COMMON.split())
CONTRACTION = re.compile(r"(n't|'\w+)$")
SUFFIXES = ("ations", "ation", "ings", "ing", "edly", "ied", "ies", "ed", "es", "s", "ly", "al")
SHORTEST_STEM = 3


def stems(text: str) -> list[str]:
    """The words of `text`, lower-case and cut to rough stems, without those that say nothing about its subject."""
    plain = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    found = (CONTRACTION.sub("", word) for word in re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", plain))
    return [stem(word) for word in found if word and word not in STOP_WORDS]


def stem(word: str) -> str:
    """`word` without its ending, so that "refunds" and "refunded" are one."""
    for suffix in SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= SHORTEST_STEM:
            return word.removesuffix(suffix)
    return word.removesuffix("e") if len(word) > SHORTEST_STEM else word


@dataclass(frozen=True)
class Match:
    """A group, and how near it is: 0 shares nothing, 1 is the same."""

    label: str
    score: float


class TfIdf:
    """An index of labelled texts.

    Args:
        texts: pairs of label and text; a label may have many texts, which together are its group.
    """

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        counted = [(label, Counter(stems(text))) for label, text in texts]
        in_texts = Counter(word for _, counts in counted for word in counts)
        self._rarity = {word: math.log((1 + len(counted)) / (1 + n)) + 1 for word, n in in_texts.items()}
        # A word never seen counts as a rare one: a text in another language must not look like the one word it shares.
        self._unseen = max(self._rarity.values(), default=1.0)
        groups: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for label, counts in counted:
            for word, weight in self._direction(counts).items():
                groups[label][word] += weight
        self._groups = {label: _unit(weights) for label, weights in sorted(groups.items())}

    def _direction(self, counts: Counter[str]) -> dict[str, float]:
        return _unit({word: (1 + math.log(n)) * self._rarity.get(word, self._unseen) for word, n in counts.items()})

    def rank(self, text: str) -> list[Match]:
        """The groups that share a word with `text`, nearest first; equal ones in alphabetical order."""
        direction = self._direction(Counter(stems(text)))
        scored = (
            Match(label, sum(weight * group.get(word, 0.0) for word, weight in direction.items()))
            for label, group in self._groups.items()
        )
        return sorted((match for match in scored if match.score > 0), key=lambda match: -match.score)


def _unit(weights: dict[str, float]) -> dict[str, float]:
    length = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
    return {word: weight / length for word, weight in weights.items()}
