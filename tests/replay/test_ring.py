import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl import replay
from ssmrl.errors import UsageError

ROW = {"id": jax.ShapeDtypeStruct((), jnp.int32), "pair": jax.ShapeDtypeStruct((2,), jnp.float32)}
CAPACITY, ENVS = 11, 3


def rows_from(first, n):
    """Rows numbered by environment and time: `1000 * env + time`."""
    ids = 1000 * np.arange(ENVS) + first + np.arange(n)[:, None]
    return {"id": jnp.asarray(ids, jnp.int32), "pair": jnp.asarray(ids[..., None] * [1.0, -1.0])}


def play(steps, n=4, seed=0):
    """A ring after many writes with gaps, and what Python's deques hold after the same."""
    rng = np.random.default_rng(seed)
    ring = replay.empty(ROW, CAPACITY, ENVS)
    kept = [collections.deque(maxlen=CAPACITY) for _ in range(ENVS)]
    put = jax.jit(replay.write)
    for step in range(steps):
        rows = rows_from(step * n, n)
        rows["pair"] = rows["pair"].astype(jnp.float32)
        valid = rng.random((n, ENVS)) < [1.0, 0.8, 0.3]
        ring = put(ring, rows, jnp.asarray(valid))
        for env in range(ENVS):
            kept[env].extend(np.asarray(rows["id"])[valid[:, env], env].tolist())
    return ring, [list(k) for k in kept]


def draw(ring, batch, length, seed=0, name="uniform"):
    take = jax.jit(replay.sample, static_argnums=(2, 3, 4))
    sampler = replay.sampler(name)
    return jax.device_get(take(ring, jax.random.key(seed), batch, length, sampler))


def windows_of(kept, length):
    return [
        tuple(rows[i : i + length]) for rows in kept for i in range(max(len(rows) - length + 1, 0))
    ]


@pytest.mark.parametrize("steps", [2, 3, 4, 9])
@pytest.mark.parametrize("name", replay.SAMPLERS)
def test_every_window_is_drawn_and_none_crosses_the_write_head(steps, name):
    ring, kept = play(steps)
    held = windows_of(kept, 4)
    np.testing.assert_array_equal(replay.windows(ring, 4), [max(len(k) - 3, 0) for k in kept])
    drawn = draw(ring, 3000, 4, name=name)
    assert drawn["id"].shape == (4, 3000) and drawn["pair"].shape == (4, 3000, 2)
    assert {tuple(w) for w in drawn["id"].T.tolist()} == set(held)
    np.testing.assert_array_equal(drawn["pair"], drawn["id"][..., None] * np.float32([1, -1]))


def test_all_windows_are_equally_likely_however_the_environments_are_filled():
    ring, kept = play(4)
    held = windows_of(kept, 4)
    counts = collections.Counter(map(tuple, draw(ring, 20_000, 4)["id"].T.tolist()))
    assert len({len(k) for k in kept}) > 1
    expected = 20_000 / len(held)
    assert max(abs(counts[w] - expected) for w in held) < 5 * expected**0.5


def test_a_ring_that_holds_no_whole_window_says_so():
    ring, _ = play(1)
    assert int(jnp.sum(replay.windows(ring, 5))) == 0
    assert int(jnp.sum(replay.windows(ring, 4))) > 0


def test_more_rows_than_the_ring_holds_are_refused():
    with pytest.raises(UsageError, match="12 rows do not fit a ring of capacity 11"):
        replay.write(
            replay.empty(ROW, CAPACITY, ENVS), rows_from(0, 12), jnp.ones((12, ENVS), bool)
        )


def draws_of(temperature, n, seed=0):
    sampler = replay.sampler("time_balanced", temperature)
    return np.asarray(jax.jit(sampler)(jax.random.key(seed), n))


@pytest.mark.parametrize("temperature", [0.0, 0.3, 0.9])
def test_time_balanced_draws_match_the_closed_form(temperature):
    n, u = 50_000, (np.arange(200_000) + 0.5) / 200_000
    w = temperature * u * (1 - np.log(u)) + (1 - temperature) * u
    expected = np.histogram(w, bins=10, range=(0, 1))[0] / len(u)
    drawn = draws_of(temperature, jnp.full(400_000, n))
    assert drawn.min() >= 0 and drawn.max() == n - 1
    got = np.histogram(drawn, bins=10, range=(0, n))[0] / len(drawn)
    np.testing.assert_allclose(got, expected, atol=0.003)
    if temperature == 0.3:  # the oldest and the newest tenth
        np.testing.assert_allclose(got[[0, -1]], [0.054, 0.139], atol=0.003)


def test_over_a_lifetime_time_balanced_draws_differ_less_than_uniform_ones():
    inserts, draws = 20_000, 16
    n = jnp.repeat(jnp.arange(1, inserts + 1), draws)

    def share_by_age(drawn):
        counts = np.bincount(drawn, minlength=inserts).reshape(10, -1).mean(axis=1)
        return counts / counts.mean()

    key = jax.random.key(0)
    uniform = share_by_age(np.asarray(jax.jit(replay.sampler("uniform"))(key, n)))
    balanced = share_by_age(draws_of(0.3, n))
    np.testing.assert_allclose(uniform[[0, -1]], [3.30, 0.05], atol=0.03)
    np.testing.assert_allclose(balanced[[0, -1]], [2.64, 0.07], atol=0.03)


def test_the_size_is_known_before_a_ring_is_made():
    size = replay.nbytes(ROW, CAPACITY, ENVS)
    rows = replay.empty(ROW, CAPACITY, ENVS).rows
    assert size == sum(x.nbytes for x in jax.tree.leaves(rows)) == 12 * CAPACITY * ENVS
    assert [replay.readable(n) for n in (396, 1.2e9, 130e9)] == ["396 B", "1.2 GB", "130.0 GB"]


def test_a_replay_that_cannot_fit_is_refused_before_it_is_made():
    replay.check_fits(70, 100, "")
    replay.check_fits(10**15, None, "")
    with pytest.raises(UsageError, match=r"needs 90 B, more than 80% of the device's 100 B; less"):
        replay.check_fits(90, 100, "less")


def test_wrong_samplers_are_refused():
    with pytest.raises(UsageError, match=r"unknown replay sampler 'unifrom'.*'uniform'"):
        replay.sampler("unifrom")
    with pytest.raises(UsageError, match="temperature of a sampler lies in 0 to 1; got 2"):
        replay.sampler("time_balanced", 2.0)
