"""The tasks: targets against plain Python, and constructions that solve them exactly."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.errors import UsageError
from ssmrl.memory import affine_scan
from ssmrl.memory.diagnostics import tasks
from ssmrl.memory.diagnostics.tasks import TASKS, generate, groups, score
from ssmrl.memory.diagnostics.tasks.signals import hidden_markov_model
from tests.envs.probes import run_once
from tests.memory.task_references import REFERENCES, UNKNOWN, episodes, tokens_of

LENGTH, BATCH, STEPS = 300, 8, 700
SHORT = {"induction": 24}  # one answer an episode: many episodes


@cache
def drawn(name, **options):
    """(task, sequences as numpy) of episodes of up to 300 steps."""
    task = tasks.make(name, **({"length": SHORT.get(name, LENGTH)} | options))
    sequences = run_once(lambda key: generate(task, key, BATCH, STEPS), jax.random.key(3))
    return task, jax.tree.map(np.asarray, sequences)


@pytest.mark.parametrize("name", TASKS)
def test_sequences_are_episodes_in_a_row(name):
    task, s = drawn(name)
    assert s.u.shape == (STEPS, BATCH, task.in_dim) and s.u.dtype == np.float32
    assert s.reset.shape == s.scored.shape == s.dt.shape == (STEPS, BATCH)
    assert s.reset.dtype == s.scored.dtype == bool and s.reset[0].all()
    width = () if task.kind == "class" else (task.outputs,)
    assert s.target.shape == (STEPS, BATCH, *width)
    assert s.target.dtype == (np.int32 if task.kind == "class" else np.float32)
    lengths = np.concatenate([np.diff(np.flatnonzero(row)) for row in s.reset.T])
    assert lengths.max() <= task.length and lengths.min() >= task.length // 2
    assert len(lengths) >= BATCH and s.scored.sum() >= 50
    if task.kind == "class":  # every class is asked for, none but those
        assert set(np.unique(s.target[s.scored])) == set(range(task.outputs))
    assert (s.u[:, 0] != s.u[:, 1]).any() or name == "aa_star"


@pytest.mark.parametrize("name", REFERENCES)
def test_targets_are_those_of_plain_python(name):
    task, s = drawn(name)
    tokens = tokens_of(task, s.u)
    for b in range(BATCH):
        for shown, target, scored in episodes(
            s.reset[:, b], tokens[:, b], s.target[:, b], s.scored[:, b]
        ):
            want = np.asarray(REFERENCES[name](task, shown))
            if task.kind == "class":
                np.testing.assert_array_equal(scored, want != UNKNOWN)
                np.testing.assert_array_equal(target[scored], want[scored])
            else:
                np.testing.assert_allclose(target, want, atol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_the_present_input_alone_does_not_tell_the_answer(name):
    # the best table from input to answer, made of the answers themselves
    task, s = drawn(name)
    u, target = s.u[s.scored], s.target[s.scored]
    if task.kind == "real":
        best = u * (u * target).sum() / (u * u).sum()
    else:
        hot = np.eye(task.outputs)[target] if task.kind == "class" else target
        _, inputs = np.unique(u, axis=0, return_inverse=True)
        cells = np.zeros((inputs.max() + 1, task.outputs))
        np.add.at(cells, inputs.reshape(-1), hot)
        best = np.log(cells / cells.sum(axis=1, keepdims=True) + 1e-9)[inputs.reshape(-1)]
    best = jnp.asarray(best, jnp.float32)[:, None]
    memoryless = score(task, best, target[:, None], np.ones((len(target), 1), bool))
    assert memoryless < {"bounded_dyck": 0.8, "counters": 0.7}.get(name, 0.6)


def test_symbols_to_copy_come_at_all_steps_alike():
    task, s = drawn("selective_copy", length=18, count=2)  # 16 steps, 2 of them symbols
    start = np.flatnonzero(s.reset[:, 0])[:-1]
    assert (start == np.flatnonzero(s.reset[:, 1])[:-1]).all()
    symbol = (s.u[:, :, : task.symbols].sum(-1) > 0)[start[:, None] + np.arange(16)]
    share = symbol.mean(axis=(0, 2))
    assert symbol.sum(axis=1).min() == symbol.sum(axis=1).max() == 2
    assert np.abs(share - 2 / 16).max() < 5 * np.sqrt(2 / 16 * 14 / 16 / (len(start) * BATCH))


def test_the_delayed_signal_is_the_signal_of_then():
    task, s = drawn("delay")
    lag = int(task.lag)
    for u, target, scored in episodes(s.reset[:, 0], s.u[:, 0], s.target[:, 0], s.scored[:, 0]):
        assert scored.tolist() == [t >= lag for t in range(len(u))]
        np.testing.assert_allclose(target[lag:], u[:-lag], atol=1e-4)
    assert (s.dt == 1).all()
    assert np.abs(s.u).max() <= task.bound
    assert abs(drawn("delay", length=20, lag=2.0)[1].u.var() - 0.5) < 0.05


def test_lost_samples_show_in_dt_and_the_signal_keeps_its_time():
    task, s = drawn("rate_jitter")
    lost = s.dt[~s.reset] - 1
    assert abs(lost.mean() - task.drop / (1 - task.drop)) < 0.05
    assert (lost == np.round(lost)).all()
    found = 0
    for u, target, dt in episodes(s.reset[:, 0], s.u[:, 0], s.target[:, 0], s.dt[:, 0]):
        now = np.cumsum(np.append(0, dt[1:]))
        for i, then in enumerate(now - task.lag):
            if then in now:
                found += 1
                np.testing.assert_allclose(target[i], u[np.searchsorted(now, then)], atol=1e-3)
    assert found > 100
    assert (drawn("delay", rate=0.5)[1].dt[5] == 0.5).all()


def test_the_filter_agrees_with_the_sum_over_all_hidden_paths():
    task, s = drawn("belief")
    moves, sees = (x.astype(float) for x in hidden_markov_model(task))
    seen = tokens_of(task, s.u)[:5, 0, 0]
    paths = np.stack(np.meshgrid(*[range(task.states)] * 5, indexing="ij"), -1).reshape(-1, 5)
    weight = np.prod(moves[paths[:, :-1], paths[:, 1:]], axis=1)
    weight = weight * np.prod(sees[paths, seen[None]], axis=1)
    want = np.bincount(paths[:, -1], weight)
    np.testing.assert_allclose(s.target[4, 0], want / want.sum(), atol=1e-5)


@pytest.mark.parametrize(
    ("group", "order"),
    [("Z_2", 2), ("Z_60", 60), ("S_3", 6), ("A_4xZ_5", 60), ("S_4", 24), ("A_5", 60), ("S_5", 120)],
)
def test_groups_have_their_order_and_are_groups(group, order):
    table = groups.products(group)
    everyone = np.arange(order)
    assert table.shape == (order, order)
    assert (np.sort(table, axis=0) == everyone[:, None]).all()
    assert (np.sort(table, axis=1) == everyone).all()
    assert (table[0] == everyone).all() and (table[:, 0] == everyone).all()
    a, b, c = np.random.default_rng(0).integers(order, size=(3, 200))
    assert (table[table[a, b], c] == table[a, table[b, c]]).all()
    assert (table == table.T).all() == group.startswith("Z_")


def test_scores_are_one_for_the_truth_and_zero_for_the_mean():
    task, s = drawn("belief")
    truth = np.log(s.target)
    mean = np.broadcast_to(np.log(s.target.mean(axis=(0, 1), keepdims=True)), s.target.shape)
    assert abs(score(task, truth, s.target, s.scored) - 1) < 1e-5
    assert abs(score(task, mean, s.target, s.scored)) < 1e-4
    task, s = drawn("delay")
    assert score(task, s.target, s.target, s.scored) == 1
    mean = np.full_like(s.target, s.target[s.scored].mean())
    assert abs(score(task, mean, s.target, s.scored)) < 1e-4


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("flipflop", {}, "unknown task 'flipflop'; nearest: 'flip_flop'"),
        ("copy", {"size": 3}, "unknown option of task 'copy' 'size'"),
        ("copy", {"length": 15}, "length of Copy: expected at least 16, got 15"),
        ("selective_copy", {"count": 0}, "count of SelectiveCopy"),
        ("copy", {"symbols": 1}, "symbols of Copy"),
        ("induction", {"length": 2}, "at least 3"),
        ("induction", {"symbols": 1}, "symbols of Induction"),
        ("associative_recall", {"pairs": 9}, "expected 1 to keys=8, got 9"),
        ("overwriting_recall", {"length": 11}, "at least 12"),
        ("associative_recall", {"values": 1}, "values of AssociativeRecall"),
        ("flip_flop", {"ignore": 1.0}, "0 <= ignore < 1"),
        ("parity", {"modulus": 1}, "modulus of ModularSum"),
        ("counters", {"kinds": 0}, "kinds of Counters"),
        ("bounded_dyck", {"kinds": 0}, "kinds of BoundedDyck"),
        ("bounded_dyck", {"depth": 0}, "depth of BoundedDyck"),
        ("group_word", {"group": "S_6"}, "unknown group 'S_6'; nearest: 'S_5'"),
        ("group_word", {"elements": "some"}, "unknown choice of elements"),
        ("group_word", {"group": "A_5", "elements": "transpositions"}, "has no transpositions"),
        ("delay", {"lag": -1.0}, "lag >= 0"),
        ("delay", {"tones": 0}, "tones of Delay"),
        ("delay", {"highest": 0.6}, "highest of Delay"),
        ("delay", {"rate": 0.0}, "rate > 0"),
        ("rate_jitter", {"drop": 1.0}, "drop of Delay"),
        ("belief", {"states": 1}, "states of Belief"),
        ("belief", {"observations": 1}, "observations of Belief"),
    ],
)
def test_an_impossible_task_is_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        tasks.make(name, **options)


# --------------------------------------------------------------------- exact constructions


def solves(construct, name, **options):
    """The share of right answers of a construction `(task, u, reset) -> (T, B, K)`."""
    task, s = drawn(name, **options)
    answers = run_once(partial(construct, task), s.u, s.reset)
    return float(score(task, answers, s.target, s.scored))


def one_hot_near(x, classes):
    return -jnp.abs(x[..., None] - jnp.arange(classes, dtype=jnp.float32)[None, None])


def signed_gate(task, u, reset):
    one = jnp.ones((1,))
    x = affine_scan(1 - 2 * u[..., 1:], jnp.zeros_like(u[..., 1:]), one, reset=reset, reset_to=one)
    return one_hot_near((1 - x[..., 0]) / 2, 2)


def nonnegative_gate(task, u, reset):
    return signed_gate(task, u / 2, reset)


def selective_gate(task, u, reset):
    write, bit = u[..., :1], u[..., 4:]
    x = affine_scan(1 - write, write * (2 * bit - 1), reset=reset)
    return jnp.concatenate([-x, x], axis=-1)


def constant_gate(task, u, reset):
    write, bit = u[..., :1], u[..., 4:]
    x = affine_scan(jnp.full((1,), 0.9), write * (2 * bit - 1), reset=reset)
    return jnp.concatenate([-x, x], axis=-1)


def integrator(task, u, reset):
    x = affine_scan(jnp.ones((1,)), u[..., :1] - u[..., 1:], reset=reset)
    return one_hot_near(jnp.sign(x[..., 0]) + 1, 3)


def alternator(task, u, reset):
    x = affine_scan(-jnp.ones((1,)), u, reset=reset)
    return one_hot_near(1 - x[..., 0], 2)


def shift_register(task, u, reset, size=LENGTH):
    """A ring of `size` cells, diagonal in the discrete Fourier basis: linear, time-invariant."""
    modes, lag = np.arange(size), task.length - task.count
    ring = np.exp(2j * np.pi * modes / size).astype(np.complex64)
    tap = (np.exp(-2j * np.pi * modes * lag / size) / size).astype(np.complex64)
    cells = jnp.broadcast_to(u[:, :, None, : task.symbols], (*u.shape[:2], size, task.symbols))
    x = affine_scan(ring[None, None, :, None], cells.astype(jnp.complex64), reset=reset)
    return jnp.einsum("k,tbks->tbs", tap, x).real


def two_layers(task, u, reset):
    """S_3 = Z_3 extended by Z_2: signs first, then turns whose direction the last sign tells."""
    known = groups.elements("S_3")
    odd = np.array([sum(p[i] > p[j] for i in range(3) for j in range(i, 3)) % 2 for p in known])
    # p is the turn i -> i + r after the swap of 0 and 1 if p is odd
    turn = np.array([p[1] if o else p[0] for p, o in zip(known, odd, strict=True)], np.float32)
    signs, one = (1 - 2 * odd).astype(np.float32), jnp.ones((1,))
    sign = u @ signs[:, None]
    sign = affine_scan(sign, jnp.zeros_like(sign), one, reset=reset, reset_to=one)
    before = jnp.concatenate([jnp.ones_like(sign[:1]), sign[:-1]])
    before = jnp.where(reset[..., None], 1, before)
    angle = before * (u @ turn[:, None]) * (2 * np.pi / 3)
    spin = jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
    start = one.astype(jnp.complex64)
    x = affine_scan(spin, jnp.zeros_like(spin), start, reset=reset, reset_to=start)
    turned = jnp.angle(x) * (3 / (2 * np.pi))  # modulo 3
    distance = jnp.abs((turned - turn[None, None] + 1.5) % 3 - 1.5)
    return -distance - jnp.abs(sign - signs[None, None])


def reflections(task, u, reset):
    """DeltaNet's `S (I - beta k k^T)` with beta = 2 and k = (e_i - e_j) / sqrt 2."""
    known = groups.elements(task.group)
    points = len(known[0])
    eye = jnp.eye(points)
    pairs = np.array([(i, j) for i in range(points) for j in range(i + 1, points)])
    k = u @ ((eye[pairs[:, 0]] - eye[pairs[:, 1]]) / jnp.sqrt(2.0))  # (T, B, points)

    def step(s, inputs):
        k, reset = inputs
        s = jnp.where(reset[:, None, None], eye[None], s)
        s = s - 2 * jnp.einsum("bij,bj,bk->bik", s, k, k)
        return s, s

    s = jax.lax.scan(step, jnp.broadcast_to(eye, (u.shape[1], points, points)), (k, reset))[1]
    wanted = jnp.stack([eye[jnp.array(p)].T for p in known])
    return jnp.einsum("tbij,nij->tbn", s, wanted)


def filter_by_products(task, u, reset):
    """Normalised products of matrices, associative; a reset selects the later product."""
    moves, sees = map(jnp.asarray, hidden_markov_model(task))
    likelihood = u @ sees.T
    matrix = (
        jnp.where(reset[..., None, None], 1 / task.states, moves[None, None])
        * likelihood[..., None, :]
    )

    def compose(first, then):
        m = jnp.where(then[1], then[0], first[0] @ then[0])
        return m / jnp.sum(m, axis=(-1, -2), keepdims=True), first[1] | then[1]

    m = jax.lax.associative_scan(compose, (matrix, reset[..., None, None]))[0]
    belief = jnp.sum(m, axis=-2)
    return jnp.log(belief / jnp.sum(belief, axis=-1, keepdims=True))


def delta_rule(task, u, reset, forget=1.0):
    """`S (I - k k^T) + v k^T` with one-hot keys: the linear part is diagonal."""
    k, v = u[..., : task.keys, None], u[..., None, task.keys + 1 : -1]
    writes = 1 - u[..., -1:, None]
    s = affine_scan(1 - forget * writes * k, k * v, reset=reset)
    return jnp.sum(k * s, axis=-2)


@pytest.mark.parametrize(
    ("construct", "name", "options"),
    [
        (signed_gate, "parity", {}),
        (selective_gate, "flip_flop", {}),
        (integrator, "counters", {}),
        (alternator, "aa_star", {}),
        (shift_register, "copy", {}),
        (two_layers, "group_word", {}),
        (reflections, "group_word", {"group": "S_5", "elements": "transpositions"}),
        (delta_rule, "associative_recall", {}),
        (delta_rule, "overwriting_recall", {}),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_a_construction_solves_its_task_exactly_over_300_steps(construct, name, options):
    assert solves(construct, name, **options) == 1.0


def test_products_of_matrices_are_the_exact_filter():
    task, s = drawn("belief")
    belief = jnp.exp(run_once(partial(filter_by_products, task), s.u, s.reset))
    np.testing.assert_allclose(belief, s.target, atol=1e-5)


@pytest.mark.parametrize(
    ("construct", "name"),
    [
        (nonnegative_gate, "parity"),
        (constant_gate, "flip_flop"),
        (partial(shift_register, size=4), "copy"),
        (partial(delta_rule, forget=0.0), "overwriting_recall"),
    ],
    ids=["gate in (0, 1)", "gate that ignores the input", "register too short", "only adds"],
)
def test_a_construction_that_lacks_what_the_task_needs_fails(construct, name):
    assert solves(construct, name) < 0.97
