"""What a request weighs in a rate limit: some systems count a search for ten reads."""

from __future__ import annotations

from collections.abc import Mapping


class Weights:
    """The weights of one system's requests, by method, or by method and the beginning of the path."""

    def __init__(self, weights: Mapping[str, int], base: str) -> None:
        """`weights` as `limits` has them, for URLs that start with `base`."""
        self._base = base
        longest_first = sorted(weights.items(), key=lambda weight: len(weight[0]), reverse=True)
        self._weights = [(*name.partition(" ")[::2], weight) for name, weight in longest_first]

    def of(self, method: str, url: str) -> int:
        """The weight of a request; 1 where nothing is said of it."""
        if not self._weights:
            return 1
        path = url.removeprefix(self._base)
        for of_method, beginning, weight in self._weights:
            if method == of_method and path.startswith(beginning):
                return weight
        return 1
