"""Statistics of a few noisy runs: medians, spread, and ratios that are made within a round.

Rounds are interleaved, so whatever slowed the machine for a while slowed all configurations of that round alike.
A ratio is therefore taken round by round, and the median of those is told, with the lowest and highest beside it.
"""

import statistics


def summary(values):
    """Median, lowest, highest, quartiles and the half-width of the middle half relative to the median."""
    values = sorted(v for v in values if v is not None)
    if not values:
        return None
    median = statistics.median(values)
    low, high = (values[0], values[-1]) if len(values) < 4 else quartiles(values)
    return {"median": median, "min": values[0], "max": values[-1], "q1": low, "q3": high, "n": len(values),
            "spread": (high - low) / 2 / median if median else 0.0}


def quartiles(values):
    """By the method of medians of halves (Tukey's hinges, the middle value in neither half)."""
    half = len(values) // 2
    return statistics.median(values[:half]), statistics.median(values[-half:])


def ratios(ours, base):
    """ours, base: {round: value}. What both have, and the base is not zero."""
    return [ours[r] / base[r] for r in sorted(ours.keys() & base.keys())
            if ours[r] is not None and base[r]]


def ratio(ours, base):
    found = summary(ratios(ours, base))
    if found:
        # With all rounds on one side of 1 the order is sure as far as these rounds go.
        found["sure"] = found["min"] > 1 or found["max"] < 1
    return found
