"""The targets of every task once more, in plain Python, from what was shown alone."""

import numpy as np

from ssmrl.memory.diagnostics.tasks import groups
from ssmrl.memory.diagnostics.tasks.signals import hidden_markov_model

UNKNOWN = -1


def copy(task, tokens):
    symbols = [t for t in tokens[:, 0] if t < task.symbols]
    go = tokens[:, 0] == task.symbols + 1
    start = int(np.argmax(go)) if go.any() else len(tokens)
    answer = [UNKNOWN] * start + symbols
    return answer[: len(tokens)]


def induction(task, tokens):
    tokens = list(tokens[:, 0])
    if tokens.count(task.symbols) < 2:
        return [UNKNOWN] * len(tokens)
    return [UNKNOWN] * (len(tokens) - 1) + [tokens[tokens.index(task.symbols) + 1]]


def associative_recall(task, tokens):
    table, out = {}, []
    for key, value in tokens:
        asked = key < task.keys and value == task.values
        if value < task.values:
            table[key] = value
        out.append(table[key] if asked else UNKNOWN)
    return out


def flip_flop(task, tokens):
    bit, out = None, []
    for do, shown in tokens:
        bit = shown if do == 0 else bit
        assert do < 2 or shown == 0, "a read shows no bit"
        out.append(bit if do == 2 else UNKNOWN)
    return out


def modular_sum(task, tokens):
    return np.cumsum(tokens[:, 0]) % task.modulus


def aa_star(task, tokens):
    return [t % 2 for t in range(len(tokens))]


def counters(task, tokens):
    counts, out = [0] * task.kinds, []
    for token in tokens[:, 0]:
        counts[token // 2] += 1 if token % 2 == 0 else -1
        out.append(sum((np.sign(c) + 1) * 3**i for i, c in enumerate(counts)))
    return out


def bounded_dyck(task, tokens):
    stack, out = [], []
    for token in tokens[:, 0]:
        if token < task.kinds:
            stack.append(token)
        else:
            assert stack.pop() == token - task.kinds, "closes what was not open"
        assert len(stack) <= task.depth
        out.append(1 + stack[-1] if stack else 0)
    return out


def group_word(task, tokens):
    known = groups.elements(task.group)
    shown = groups.shown_elements(task.group, task.elements)
    now, out = known[0], []
    for token in tokens[:, 0]:
        x = known[shown[token]]
        now = tuple(now[x[i]] for i in range(len(x)))
        out.append(known.index(now))
    return out


def belief(task, tokens):
    moves, sees = (x.astype(float) for x in hidden_markov_model(task))
    now, out = np.full(task.states, 1 / task.states), []
    for t, token in enumerate(tokens[:, 0]):
        now = (now @ moves if t else now) * sees[:, token]
        now /= now.sum()
        out.append(now)
    return np.array(out)


REFERENCES = {
    "copy": copy,
    "selective_copy": copy,
    "induction": induction,
    "associative_recall": associative_recall,
    "overwriting_recall": associative_recall,
    "flip_flop": flip_flop,
    "parity": modular_sum,
    "modular_sum": modular_sum,
    "aa_star": aa_star,
    "counters": counters,
    "bounded_dyck": bounded_dyck,
    "group_word": group_word,
    "belief": belief,
}


def tokens_of(task, u):
    """The tokens `(..., k)` behind one-hots `(..., F)`."""
    parts = np.split(np.asarray(u), np.cumsum(task.tokens)[:-1], axis=-1)
    assert all((part.sum(axis=-1) == 1).all() for part in parts)
    return np.stack([part.argmax(axis=-1) for part in parts], axis=-1)


def episodes(reset, *arrays):
    """The pieces of a row `(T, ...)` between resets, the last one maybe cut off."""
    cuts = np.flatnonzero(reset)[1:]
    return zip(*(np.split(np.asarray(a), cuts) for a in arrays), strict=True)
