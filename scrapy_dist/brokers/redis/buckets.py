"""Fingerprints of 64 bits in many small sets: the arithmetic of ``CompactDupeFilter``.

Redis keeps a set of at most 512 integers (``set-max-intset-entries``) as a sorted array:
8 bytes for each. So the fingerprints are spread over buckets by linear hashing (W. Litwin,
"Linear Hashing: A New Tool for File and Table Addressing", 1980): there are *n* buckets,
2**L <= n < 2**(L + 1); a fingerprint belongs to bucket ``f mod 2**(L + 1)``, or, where
that one is not there yet, to the one that it will be split from, ``f mod 2**L``. When
the buckets hold more than LOAD fingerprints on average, the next one is split. So the
number of buckets grows with the crawl, a little at a time.

Their keys are ``S:dupefilter:EPOCH:NUMBER``; the hash ``S:dupefilter`` holds the epoch (a
time, so that no two crawls share buckets), the number of buckets and that of fingerprints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha1
from typing import ClassVar

#: Fingerprints that a bucket holds on average. One that is next to be split holds twice
#: as many, and must stay below the 512 of an integer set: 420 is 4.5 standard deviations
#: below.
LOAD = 210
#: Buckets that one call splits at the most: about 2 ms of Redis' time.
SPLITS = 8
#: Buckets that one call can reach. Other workers split meanwhile.
AHEAD = 64


def compact(fingerprint: str) -> str:
    """64 bits of the SHA-1 of *fingerprint*, as the integer that Redis stores.

    A fingerprint may be any bytes (REQUEST_FINGERPRINTER_CLASS), and buckets need bits
    that are evenly spread. Of N different requests about N * N / 2**65 are taken for one
    that was seen before: 0.03 of a billion.
    """
    digest = sha1(fingerprint.encode(), usedforsecurity=False).digest()
    return str(int.from_bytes(digest[:8], "big", signed=True))


def _level(buckets: int) -> int:
    """The largest power of 2 that is not above *buckets*."""
    return 1 << (buckets.bit_length() - 1)


@dataclass(frozen=True)
class Shape:
    """The buckets as this worker knows them; *count* fingerprints are in them."""

    #: Fingerprints that a bucket should hold on average.
    load: ClassVar[int] = LOAD

    key: str
    epoch: str = "-"
    buckets: int = 1
    count: int = 0

    def name(self, number: int) -> str:
        """The key of bucket *number*."""
        return f"{self.key}:{self.epoch}:{number}"

    def number(self, fingerprint: str) -> int:
        """The bucket of *fingerprint* when all buckets of this level are split."""
        return abs(int(fingerprint)) % (2 * _level(self.buckets))

    def keys(self, number: int) -> tuple[str, str]:
        """The bucket *number*, and the one that it is to be split from."""
        return self.name(number), self.name(number % _level(self.buckets))

    def place(self, fingerprint: str) -> str:
        """The key of the bucket that *fingerprint* is in."""
        number = self.number(fingerprint)
        return self.keys(number)[number >= self.buckets]

    @property
    def is_crowded(self) -> bool:
        """Whether a bucket should be split."""
        return self.count > self.buckets * self.load

    def next(self) -> Iterator[str]:
        """Keys of the next splits: the bucket to be split, and the new one."""
        for number in range(self.buckets, self.buckets + AHEAD):
            yield self.name(number - _level(number))
            yield self.name(number)
