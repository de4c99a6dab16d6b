"""Which invocations a shadow variant gets a copy of: a share of them, exact by counting (data-plane.md section 6).

Dice would be right in the long run only. The share is a fraction of whole numbers, so that no number of invocations
makes it drift: 1,000 invocations at a weight of 0.3 to 1 are 300 copies.
"""

from fractions import Fraction

_NOTHING, _ALL = Fraction(0), Fraction(1)


def shadow_share(shadow_weight: float, production_weight: float) -> Fraction:
    """Give the share of invocations to copy: the shadow's weight by the production's, at most all of them.

    Weights are decimals that people wrote: 0.3 is 3/10 and not the binary number next to it.
    """
    if shadow_weight <= 0:
        return _NOTHING
    if production_weight <= 0:  # an only variant gets all the traffic, whatever its weight
        return _ALL
    return min(_ALL, Fraction(repr(shadow_weight)) / Fraction(repr(production_weight)))


class ShareCounter:
    """Counts a share out, evenly: after any number of invocations it is less than one copy away from the share."""

    __slots__ = ("_gathered", "_part", "_whole", "share")

    def __init__(self, share: Fraction) -> None:
        self.share = share
        self._part, self._whole = share.numerator, share.denominator
        self._gathered = 0

    def __repr__(self) -> str:
        return f"<ShareCounter: {self.share}, {self._gathered}/{self._whole} gathered>"

    def next(self) -> bool:
        """Count an invocation; say whether it is copied."""
        self._gathered += self._part
        if self._gathered < self._whole:
            return False
        self._gathered -= self._whole
        return True
