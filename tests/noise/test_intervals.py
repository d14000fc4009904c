import numpy as np
import pytest
from hypothesis import given as arbitrary
from hypothesis import strategies as st
from scipy.stats import beta, binom, norm, t

from assay.noise.intervals import (
    Interval,
    design_effect,
    normal_quantile,
    predicted_share,
    share_bounds,
    share_interval,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1500, 2000, 0.7306, 0.7685), (1, 1, 0.2065, 1.0)],
)
def test_known_intervals(successes, n, low, high):
    """Intervals that were worked out from Wilson's formula come out to four digits."""
    interval = wilson(successes, n)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_counts_that_cannot_be_are_refused(successes, n):
    """More successes than trials, or no trial, is an error that repeats the counts."""
    expected = f"expected 0 <= successes <= n and n >= 1, got successes={successes}, n={n}"
    with pytest.raises(ValueError, match=f"^{expected}$"):
        wilson(successes, n)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
@pytest.mark.parametrize("interval", [lambda level: wilson(1, 2, level), normal_quantile])
def test_a_level_is_a_probability(interval, level):
    """A level given as percent, or one that cannot be, is an error."""
    with pytest.raises(ValueError, match=rf"^level must lie in \(0, 1\), got {level}$"):
        interval(level)


def test_between_the_ends_it_is_the_jeffreys_interval():
    """Some hits and some misses give the equal-tailed quantiles of Beta(hits + 1/2, misses + 1/2)."""
    found = share_interval(7, 20, level=0.9)
    assert found.estimate == 0.35
    assert (found.low, found.high) == pytest.approx(beta.ppf([0.05, 0.95], 7.5, 13.5))


def test_with_no_hits_the_interval_is_one_sided():
    """The bound after no hits is the share at which that happens with probability 1 - level."""
    found = share_interval(0, 500)
    assert (found.estimate, found.low) == (0.0, 0.0)
    assert binom.pmf(0, 500, found.high) == pytest.approx(0.05)


def test_nothing_counted_leaves_everything_open():
    """Of none, the share may be anything."""
    assert share_interval(0, 0) == Interval(0.5, 0.0, 1.0, 0.95)


@arbitrary(st.integers(0, 300), st.integers(1, 300), st.floats(0.5, 0.999))
def test_the_interval_holds_the_share_and_mirrors(hits, misses, level):
    """The share lies inside, and counting misses instead gives the mirror image."""
    low, high = share_bounds(np.array([hits, misses]), np.array([hits + misses] * 2), level)
    assert 0 <= low[0] <= hits / (hits + misses) <= high[0] <= 1
    assert low[0] == pytest.approx(1 - high[1], abs=1e-9)


@pytest.mark.parametrize(("n", "share"), [(500, 0.003), (100, 0.6), (30, 0.1), (20, 0.02)])
def test_it_holds_the_true_share_as_often_as_stated(n, share):
    """Over all outcomes, weighted by their probability, 95 % intervals cover at least 91.5 %."""
    hits = np.arange(n + 1)
    low, high = share_bounds(hits, np.full(n + 1, n))
    cover = binom.pmf(hits, n, share)[(low <= share) & (share <= high)].sum()
    assert cover > 0.915


def draws_of_groups(generator, n_groups, share, correlation, mean_size=15):
    """Hits and the group of each image; images of one group are alike, and some groups are large."""
    size = np.maximum(generator.geometric(1 / mean_size, n_groups), 1)
    spread = 1 / correlation - 1
    shares = generator.beta(share * spread, (1 - share) * spread, n_groups)
    groups = np.repeat(np.arange(n_groups), size)
    return (generator.random(len(groups)) < shares[groups]).astype(float), groups


@pytest.mark.parametrize(("n_groups", "least"), [(8, 0.9), (30, 0.9), (100, 0.92)])
def test_an_interval_by_groups_covers_where_one_by_images_does_not(n_groups, least):
    """Images of one group are right or wrong together: half of the intervals by images miss."""
    generator, covered = np.random.default_rng(0), np.zeros(2)
    for _ in range(300):
        hits, groups = draws_of_groups(generator, n_groups, 0.75, 0.3)
        for way, effect in enumerate((design_effect(hits, groups), 1.0)):
            found = wilson(int(hits.sum()), len(hits), design_effect=effect)
            covered[way] += found.low <= 0.75 <= found.high
    by_groups, by_images = covered / 300
    assert by_groups >= least
    assert by_images < 0.7


def test_the_design_effect_is_that_of_the_jackknife():
    """The loop that leaves out each group in turn, with Student's quantile for that many equal groups."""
    hits, groups = draws_of_groups(np.random.default_rng(1), 12, 0.6, 0.5)
    n, names = len(hits), np.unique(groups)
    without = np.array([hits[groups != name].mean() for name in names])
    variance = (len(names) - 1) / len(names) * np.square(without - hits.mean()).sum()
    even = n**2 / np.square(np.bincount(groups)).sum()
    student = t.ppf(0.975, even - 1) / norm.ppf(0.975)
    assert design_effect(hits, groups) == pytest.approx(variance * n / hits.var() * student**2)


def test_groups_never_make_an_interval_narrower():
    """Not where by chance they are alike; a group of its own for each of many images changes nothing."""
    hits = np.tile([0.0, 1.0], 500)
    assert design_effect(hits, None) == 1
    assert design_effect(hits, np.arange(1_000)) == pytest.approx(1, abs=0.01)
    assert design_effect(hits, np.arange(1_000) // 2) >= 1
    found = share_interval(0, 100, design_effect=10.0)
    assert found == share_interval(0, 10)


@pytest.mark.parametrize("hits", [np.ones(60), np.arange(60) % 2.0])
def test_one_group_tells_next_to_nothing(hits):
    """Of three groups that are all right as much as of three images, of one even less."""
    one = wilson(int(hits.sum()), 60, design_effect=design_effect(hits, np.zeros(60, dtype=int)))
    assert one.high - one.low > 0.9
    three = design_effect(np.ones(60), np.arange(60) // 20)
    assert 60 / three == pytest.approx(3 * (norm.ppf(0.975) / t.ppf(0.975, 2)) ** 2)


def draw_guesses(seed, n=5_000, rate=0.4, error=0.1):
    """Whether each of n labels is wrong, and a guess of it that errs in one of ten."""
    rng = np.random.default_rng(seed)
    hits = rng.random(n) < rate
    return hits, hits ^ (rng.random(n) < error), rng.choice(n, 100, replace=False)


def test_guesses_narrow_the_interval_of_a_share():
    """Of 100 counted labels, guesses halve error and width; the interval holds the truth as stated."""
    covered, errors, widths = [], [], []
    for seed in range(150):
        hits, guesses, counted = draw_guesses(seed)
        found = predicted_share(hits[counted], guesses[counted], float(guesses.mean()), len(hits))
        plain = share_interval(int(hits[counted].sum()), 100)
        covered.append(found.low <= hits.mean() <= found.high)
        errors.append([found.estimate - hits.mean(), plain.estimate - hits.mean()])
        widths.append([found.high - found.low, plain.high - plain.low])
    assert 0.92 <= np.mean(covered) <= 0.98
    error, plain_error = np.sqrt(np.square(errors).mean(axis=0))
    assert error < 0.7 * plain_error
    assert np.mean(widths, axis=0)[0] < 0.75 * np.mean(widths, axis=0)[1]


def test_guesses_that_never_erred_leave_the_doubt_of_few_counts():
    """A hundred right guesses in a row do not show that no guess is wrong; useless ones change nothing."""
    hits, _, counted = draw_guesses(0)
    found = predicted_share(hits[counted], hits[counted], float(hits.mean()), len(hits))
    assert found.high - found.low > 0.03
    blind = np.random.default_rng(1).random(5_000) < 0.4
    found = predicted_share(hits[counted], blind[counted], float(blind.mean()), len(hits))
    plain = share_interval(int(hits[counted].sum()), 100)
    assert found.high - found.low == pytest.approx(plain.high - plain.low, rel=0.15)
