"""Parameters set by hand that make a memory solve a task: proof that it can, without training.

    cell, params = constructions.make("elman", task)    # {"memory", "readout"}, as `fit` returns

Every construction is of a registered cell as it is, with all its gates, norms and convolutions;
where its carry starts from something else than zero, it is wrapped in `LearnedStart`. Exact for
episodes of any length, up to rounding, unless a docstring says otherwise.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import unknown
from ssmrl.memory.blocks import Stack
from ssmrl.memory.cells.cde import LinearCDE
from ssmrl.memory.cells.deltanet import DeltaNet
from ssmrl.memory.cells.elman import Elman
from ssmrl.memory.cells.filters import HMM
from ssmrl.memory.cells.gru import GRU
from ssmrl.memory.cells.linear_attention import GateLoop, LinearAttention
from ssmrl.memory.cells.lru import LRU
from ssmrl.memory.cells.lstm import LSTM
from ssmrl.memory.cells.mamba import Mamba
from ssmrl.memory.diagnostics.tasks import (
    AssociativeRecall,
    Copy,
    Counters,
    EvenLength,
    FlipFlop,
    GroupWord,
    ModularSum,
    Task,
    groups,
)
from ssmrl.memory.spec import Memory
from ssmrl.memory.wrap import LearnedStart
from ssmrl.shapes import PyTree

Construction = tuple[Memory, PyTree]
LARGE = 100.0  # saturates every gate


def make(name: str, task: Task) -> Construction:
    """The memory `name` with parameters that solve `task`.

    Returns:
        The memory, and `{"memory", "readout"}` of float32 as `fit.evaluate` takes them.

    Raises:
        UsageError: no construction for this memory and kind of task.
    """
    known = CONSTRUCTIONS.get(name, {})
    if type(task) not in known:
        pairs = [f"{m} on {t.__name__}" for m, tasks in CONSTRUCTIONS.items() for t in tasks]
        raise unknown("construction", f"{name} on {type(task).__name__}", pairs)
    mem, params = known[type(task)](task)
    return mem, jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)


def affine(kernel: Any, bias: Any = 0.0) -> dict[str, np.ndarray]:
    """A dense layer."""
    kernel = np.asarray(kernel, np.float64)
    return {"kernel": kernel, "bias": np.broadcast_to(bias, kernel.shape[1:])}


def permutations(task: GroupWord | ModularSum) -> tuple[np.ndarray, np.ndarray]:
    """The elements of the group as permutations, `(order, points)`, and those of the tokens."""
    if isinstance(task, ModularSum):
        shifts = np.add.outer(np.arange(task.modulus), np.arange(task.modulus)) % task.modulus
        return shifts, shifts
    known = np.array(groups.elements(task.group))
    return known, known[groups.shown_elements(task.group, task.elements)]


def after(task: GroupWord | ModularSum) -> np.ndarray:
    """`(order, tokens)`: the state after each token, from each state."""
    known, shown = permutations(task)
    products = known[:, shown]  # x y moves i to x[y[i]]
    return np.argmax((products[:, :, None] == known).all(-1), axis=-1)


def alone(cell: Memory, params: PyTree, project: PyTree) -> tuple[Memory, PyTree]:
    """A stack of the cell alone, behind a map to its width."""
    return Stack((cell,)), {"project": project, "members": [params]}


# ------------------------------------------------------------------------ finite automata


def elman_automaton(task: GroupWord | ModularSum) -> Construction:
    """A unit for every pair of state and token: on iff the state and then the token came."""
    n, k = after(task).shape
    pairs = [(s, x) for s in range(n) for x in range(k)]
    reached = after(task).reshape(-1)
    came = np.array([[x == token for _, x in pairs] for token in range(k)], float)
    # sum of +-1 over the pairs that reach s is 2 - (number of them) if s is the state
    reaches = (reached[:, None] == [s for s, _ in pairs]).astype(float)
    sharp = 4.0
    bias = sharp * (reaches.sum(0) - 3)
    params = {"R": sharp * reaches, "input": affine(2 * sharp * came, bias)}
    start = np.where(np.arange(n * k) == np.argmax(reached == 0), 1.0, -1.0)
    readout = affine(reached[:, None] == np.arange(n))
    return LearnedStart(Elman(n * k)), {
        "memory": {"memory": params, "start": [start]},
        "readout": readout,
    }


def hmm_automaton(task: GroupWord | ModularSum) -> Construction:
    """Hidden states are pairs of a state and the next token, and only that token is ever seen."""
    reached = after(task)
    n, k = reached.shape
    moves = np.repeat(np.eye(n)[reached.reshape(-1)] / k, k, axis=1)  # any token may come next
    prior = np.repeat(np.eye(n)[0] / k, k)
    sees = np.tile(np.eye(k), (n, 1))
    readout = affine(np.eye(n)[reached.reshape(-1)])
    return HMM(n * k), {"memory": HMM.given(moves, sees, prior), "readout": readout}


def cde_automaton(task: GroupWord | ModularSum) -> Construction:
    """A permutation matrix for every token, applied to a vector of distinct entries."""
    known, shown = permutations(task)
    points = known.shape[1]
    eye, distinct = np.eye(points), np.arange(points) - (points - 1) / 2
    steps = np.stack([np.zeros_like(eye), *(eye[p] - eye for p in shown)])
    params = {
        "A": steps,
        "B": np.zeros((len(steps), points)),
        "input": affine(np.eye(len(shown))),
        "output": affine(eye),
    }
    # of all orders of the entries, the right one has the largest product with what is held
    readout = affine(distinct[known].T)
    cell = LearnedStart(LinearCDE(features=points, state=points, channels=len(shown)))
    return cell, {"memory": {"memory": params, "start": [distinct]}, "readout": readout}


def gateloop_group(task: Task) -> Construction:
    """S_3 = Z_3 extended by Z_2 in two layers: signs, then turns whose sense the last sign tells.

    Layer 1 multiplies signs; its query reads the sign before the token times the token's turn.
    Layer 2 turns by that. The third value of each head keeps the norm of its output constant.
    """
    assert isinstance(task, GroupWord) and task.group == "S_3"
    known = groups.elements("S_3")
    odd = np.array([sum(p[i] > p[j] for i in range(3) for j in range(i, 3)) % 2 for p in known])
    turn = np.array([p[1] if o else p[0] for p, o in zip(known, odd, strict=True)])
    turn, sign = (turn + 1) % 3 - 1, 1 - 2 * odd  # turns of -1, 0, 1 thirds
    shown = groups.shown_elements(task.group, task.elements)
    hot = np.eye(6)[: len(shown)]

    def layer(q: np.ndarray, bias_q: Any, phase: np.ndarray, start: np.ndarray) -> PyTree:
        zero = np.zeros((6, 6))
        maps = [q, zero, zero, zero, zero, phase]  # q, k, v, g, alpha, beta
        bias = [bias_q, *(np.full(6, b) for b in (0, 0, LARGE, LARGE, 0))]
        view = np.stack([start.real, start.imag], axis=-1)[None]
        return {
            "memory": {
                "in": affine(np.hstack(maps), np.concatenate(bias)),
                "out": np.eye(6) * np.sqrt(2 / 6) / LARGE,  # undoes the norm and the gate
            },
            "start": [view],
        }

    first_q, first_phase = np.zeros((6, 6)), np.zeros((6, 6))
    first_q[: len(shown), 0] = (sign * turn)[shown]
    first_q[: len(shown), 1] = 1.0
    first_q[: len(shown), 2] = (1 - np.abs(turn))[shown]
    first_phase[: len(shown), :2] = np.pi * odd[shown][:, None]
    first = layer(first_q, np.zeros(6), first_phase, np.diag([1, 1, 1, 0, 0, 0]).astype(complex))
    start = np.zeros((6, 6), complex)
    start[0, :2], start[1, 2] = (1, -1j), 1  # cosine and sine of the turn; the sign
    second_q, second_phase = np.zeros((6, 6)), np.zeros((6, 6))
    second_q[1, 1], second_phase[0, 0] = 1.0, 2 * np.pi / 3
    second = layer(second_q, np.eye(6)[0], second_phase, start)
    angle = 2 * np.pi / 3 * turn
    kernel = np.zeros((6, 6))
    kernel[:3] = np.stack([np.cos(angle), np.sin(angle), sign])
    project = {} if len(shown) == 6 else affine(hot)
    mem = Stack((LearnedStart(GateLoop(6, heads=1)),) * 2)
    return mem, {
        "memory": {"project": project, "members": [first, second]},
        "readout": affine(kernel),
    }


def deltanet_swaps(task: GroupWord) -> Construction:
    """Transpositions as reflections, `beta = 2` and `k = (e_i - e_j) / sqrt 2`."""
    assert task.elements == "transpositions"
    known, shown = permutations(task)
    points = known.shape[1]
    h = points + points % 2
    cell = DeltaNet(features=h, heads=1, negative_eigs=True)
    swapped = np.argsort(shown == np.arange(points), axis=1, kind="stable")[:, :2]
    low, high = -0.5, inverse_silu(-silu(-0.5))
    project = np.zeros((len(shown), h))
    project[np.arange(len(shown)), swapped[:, 0]] = high
    project[np.arange(len(shown)), swapped[:, 1]] = low
    kernel, bias = np.zeros((h, 4 * h + 1)), np.zeros(4 * h + 1)
    kernel[:, h : 2 * h] = np.eye(h)
    bias[:points], bias[3 * h :] = np.arange(points), LARGE
    q = np.append(silu(np.arange(points)), [0.0] * (h - points))
    conv = np.eye(4)[-1][:, None] * np.ones(3 * h)
    readout = np.zeros((h, len(known)))
    for n, p in enumerate(known):
        readout[p, n] = q[:points]
    params = {"in": affine(kernel, bias), "conv": conv, "out": np.eye(h)}
    mem, params = alone(
        LearnedStart(cell),
        {"memory": params, "start": [np.zeros((3, 3 * h)), np.eye(h)[None]]},
        affine(project),
    )
    return mem, {"memory": params, "readout": affine(readout)}


def mamba_parity(task: Task) -> Construction:
    """Decays of -1 where the bit is 1 and of 1 where it is 0; needs `negative_eigs`."""
    params = mamba(2, writes=np.array([0.0, 1.0]), value=np.zeros(2))
    cell = LearnedStart(Mamba(features=3, state=1, expand=1, negative_eigs=True))
    return cell_behind(cell, {"memory": params, "start": [np.zeros((3, 3)), np.ones((3, 1))]}, 2)


# ------------------------------------------------------------------------ gates and counters


def mamba_flip_flop(task: Task) -> Construction:
    """Step lengths so long that a write replaces all, and of zero for everything else."""
    writes, value = np.array([1.0, 0, 0, 0, 0]), np.array([0, 0, 0, 1.0, -1.0])
    return cell_behind(Mamba(features=6, state=1, expand=1), mamba(5, writes, value), 5)


def mamba(tokens: int, writes: np.ndarray, value: np.ndarray) -> PyTree:
    """One number per channel, written where `writes @ u` is 1; the last channel is constant.

    The output is the number that the last channel holds, `value @ u` at the last write, or
    what it started from, times `1 - 2 * writes @ u` since then with negative eigenvalues.
    """
    h = tokens + 1
    one = silu(1.0)
    constant = np.eye(h)[-1]
    kernel = np.hstack([np.diag(np.append(np.ones(tokens), 0)), np.zeros((h, h))])
    maps = np.stack([np.append(writes, 0), np.append(value, 0), constant], axis=1) / one
    return {
        "in": affine(kernel, np.append(constant, np.full(h, LARGE))),
        "conv": np.eye(4)[-1][:, None] * np.ones(h),
        "conv_bias": np.zeros(h),
        "maps": maps,
        "up": np.full((1, h), 2 * LARGE),
        "step": np.full(h, -LARGE),
        "log_A": np.zeros((h, 1)),
        "D": np.zeros(h),
        "out": np.diag(constant) / LARGE,
    }


def cell_behind(cell: Memory, params: PyTree, tokens: int) -> Construction:
    """A cell that reads the tokens and holds a signed number in its last channel: two classes."""
    mem, params = alone(cell, params, affine(np.eye(tokens, tokens + 1)))
    sign = np.eye(tokens + 1)[-1]
    return mem, {"memory": params, "readout": affine(np.stack([sign, -sign], axis=1))}


def gru_flip_flop(task: Task) -> Construction:
    """The update gate opens for writes alone."""
    keep, bit = np.array([[-1, 1, 1, 0, 0]]).T * LARGE, np.array([[0, 0, 0, 1, -1]]).T * LARGE
    params = {
        "input": affine(np.hstack([np.zeros((5, 1)), keep, bit])),
        "R": np.zeros((1, 3)),
        "bias_n": np.zeros(1),
    }
    return GRU(1), {"memory": params, "readout": affine([[1.0, -1.0]])}


def lstm_counter(task: Task) -> Construction:
    """The cell state counts up and down by tanh of something large."""
    assert isinstance(task, Counters) and task.kinds == 1
    open_ = np.zeros((2, 1))
    params = {
        "input": affine(
            np.hstack([open_, open_, open_, [[LARGE], [-LARGE]]]), [LARGE, LARGE, LARGE, 0]
        ),
        "R": np.zeros((1, 4)),
    }
    return LSTM(1), {"memory": params, "readout": affine([[-1.0, 0, 1.0]], [0, 0.3, 0])}


# ------------------------------------------------------------------------ linear systems


def lru(modes: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[Memory, PyTree]:
    """An LRU of undamped modes at these angles: `x' = exp(i angle) x + B u`, `y = Re(C x)`."""
    p, h = len(modes), b.shape[1]
    return LRU(features=h, state=p), {
        "nu": np.full(p, -LARGE),
        "log_theta": np.log(np.maximum(modes, 1e-30)),
        "log_gamma": np.zeros(p),
        "B": np.stack([b.real, b.imag]),
        "C": np.stack([c.real, c.imag]),
        "D": np.zeros(h),
    }


def lru_clock(task: Task) -> Construction:
    """An eigenvalue of -1: the sum of alternating ones is 1 or 0."""
    mem, params = lru(np.array([np.pi]), np.ones((1, 1)), np.ones((1, 1)))
    return mem, {"memory": params, "readout": affine([[1.0, -1.0]], [-0.5, 0.5])}


def lru_counter(task: Task) -> Construction:
    """An eigenvalue of 1: the difference of the counts."""
    assert isinstance(task, Counters) and task.kinds == 1
    mem, params = lru(np.zeros(1), np.array([[1.0, -1.0]]), np.array([[1.0], [0.0]]))
    readout = affine([[-1.0, 0, 1.0], [0, 0, 0]], [0, 0.5, 0])
    return mem, {"memory": params, "readout": readout}


def lru_shift_register(task: Task) -> Construction:
    """A ring of `length` cells for every symbol, in the Fourier basis. Of this length alone."""
    assert isinstance(task, Copy)
    size, lag = task.length, task.length - task.count
    angles = 2 * np.pi * np.arange(size) / size
    each = np.eye(task.symbols, task.in_dim)
    b = np.repeat(each, size, axis=0).astype(complex)
    c = np.repeat(each.T, size, axis=1) * np.tile(np.exp(-1j * angles * lag), task.symbols) / size
    mem, params = lru(np.tile(angles, task.symbols), b, c)
    return mem, {"memory": params, "readout": affine(each.T)}


# ------------------------------------------------------------------------ recall


def linear_attention_recall(task: Task) -> Construction:
    """One-hot keys and values; nothing is written where no value is shown."""
    assert isinstance(task, AssociativeRecall) and not task.overwrite
    width = task.in_dim + task.in_dim % 2
    key, none = np.zeros((width, width)), task.keys + 1 + task.values
    key[np.arange(task.keys), np.arange(task.keys)] = LARGE
    written, value = key.copy(), np.zeros((width, width))
    written[none] = -LARGE
    value[task.keys + 1 + np.arange(task.values), np.arange(task.values)] = 1.0
    bias = np.repeat([-LARGE, -LARGE, 0.0], width)
    params = {"in": affine(np.hstack([key, written, value]), bias)}
    cell = LinearAttention(features=width, heads=1)
    return recalled(task, cell, params, width)


def deltanet_recall(task: Task) -> Construction:
    """The same with the delta rule: a new value of a key replaces the old one."""
    assert isinstance(task, AssociativeRecall)
    width = task.in_dim + task.in_dim % 2
    key, value = np.zeros((width, width)), np.zeros((width, width))
    key[np.arange(task.keys), np.arange(task.keys)] = LARGE
    value[task.keys + 1 + np.arange(task.values), np.arange(task.values)] = LARGE
    gate, beta = np.zeros((width, width)), np.zeros((width, 1))
    beta[task.keys + 1 + task.values] = -2 * LARGE
    kernel = np.hstack([key, key, value, gate, beta])
    bias = np.append(np.zeros(3 * width), np.full(width + 1, LARGE))
    conv = np.eye(4)[-1][:, None] * np.ones(3 * width)
    params = {"in": affine(kernel, bias), "conv": conv, "out": np.eye(width)}
    return recalled(task, DeltaNet(features=width, heads=1), params, width)


def recalled(task: AssociativeRecall, cell: Memory, params: PyTree, width: int) -> Construction:
    """A cell that reads tokens and, asked for a key, puts out its value, one-hot."""
    project = {} if width == task.in_dim else affine(np.eye(task.in_dim, width))
    mem, params = alone(cell, params, project)
    return mem, {"memory": params, "readout": affine(np.eye(width, task.values))}


def silu(x: Any) -> Any:
    """x sigmoid(x)."""
    return x / (1 + np.exp(-np.asarray(x, np.float64)))


def inverse_silu(y: float) -> float:
    """The x > 0 with silu(x) = y > 0."""
    x = y
    for _ in range(100):
        x = y * (1 + np.exp(-x))
    return float(x)


CONSTRUCTIONS: dict[str, dict[type[Task], Callable[[Any], Construction]]] = {
    "elman": {ModularSum: elman_automaton, GroupWord: elman_automaton},
    "hmm": {ModularSum: hmm_automaton, GroupWord: hmm_automaton},
    "linear_cde": {ModularSum: cde_automaton, GroupWord: cde_automaton},
    "gateloop": {GroupWord: gateloop_group},
    "deltanet": {GroupWord: deltanet_swaps, AssociativeRecall: deltanet_recall},
    "mamba": {ModularSum: mamba_parity, FlipFlop: mamba_flip_flop},
    "gru": {FlipFlop: gru_flip_flop},
    "lstm": {Counters: lstm_counter},
    "lru": {EvenLength: lru_clock, Counters: lru_counter, Copy: lru_shift_register},
    "linear_attention": {AssociativeRecall: linear_attention_recall},
}
"""By name of the memory and kind of task; options of the memory are set as the task needs."""
