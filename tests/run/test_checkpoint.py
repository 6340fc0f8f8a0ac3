"""Checkpoints: what comes back, and what happens to damaged and foreign ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.errors import UsageError
from ssmrl.run import checkpoint

WHO = {"agent": "in_context", "memory": "s5"}


class State(NamedTuple):
    params: dict
    key: jax.Array
    empty: jax.Array
    update: jax.Array


def state(update=0, width=3):
    return State(
        params={
            "w/x": jnp.full((2, width), update + 0.5, jnp.bfloat16),
            "lam": jnp.arange(width) * (1 + 2j),
            "flag": jnp.array([True, False]),
        },
        key=jax.random.split(jax.random.key(update), 2),
        empty=jnp.zeros((0, 3)),
        update=jnp.array(update, jnp.int32),
    )


@pytest.fixture
def folder(tmp_path):
    for update in (1, 2):
        checkpoint.save(tmp_path, update, state(update), WHO, keep=5)
    return tmp_path


def restore(folder, like=None, who=WHO):
    said = []
    like = jax.eval_shape(state) if like is None else like
    return *checkpoint.restore_latest(folder, like, who, said.append), said


def test_every_kind_of_leaf_comes_back_bit_for_bit(folder):
    update, back, said = restore(folder)
    assert update == 2 and not said
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(state(2)), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def truncated(file):
    file.write_bytes(file.read_bytes()[:-2])


def flipped(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [truncated, flipped, lambda file: file.unlink()])
def test_damage_to_any_file_falls_back_to_the_checkpoint_before(folder, damage):
    for file in [f for f in (folder / "2").rglob("*") if f.is_file()]:
        whole = file.read_bytes()
        damage(file)
        update, back, said = restore(folder)
        assert update == 1 and int(back.update) == 1, file
        assert len(said) == 1 and "checkpoint 2 is damaged" in said[0]
        file.write_bytes(whole)


def test_no_whole_checkpoint_is_an_error(folder):
    for update in (1, 2):
        (folder / str(update) / checkpoint.MANIFEST).unlink()
    with pytest.raises(UsageError, match="no whole checkpoint"):
        restore(folder)


@pytest.mark.parametrize(
    ("like", "who", "said"),
    [
        (
            lambda: state(width=4),
            WHO,
            r"leaf .params\['lam'\] expected complex64\[4\], got .*\[3\]",
        ),
        (lambda: state()._replace(params={}), WHO, r"leaf .params\['flag'\] expected nothing"),
        (state, WHO | {"memory": "gru"}, "identity memory expected gru, got s5"),
    ],
)
def test_a_foreign_checkpoint_is_refused_by_its_first_difference(folder, like, who, said):
    with pytest.raises(UsageError, match=said):
        restore(folder, jax.eval_shape(like), who)


def test_only_the_latest_are_kept_and_those_of_a_line_that_was_left_go(folder):
    for update in (3, 4, 5):
        checkpoint.save(folder, update, state(update), WHO, keep=2)
    assert checkpoint.updates(folder) == [4, 5]
    checkpoint.save(folder, 4, state(4), WHO, keep=2)
    assert checkpoint.updates(folder) == [4]


def test_what_a_killed_process_left_unfinished_is_ignored_and_removed(folder):
    (folder / ".3").mkdir()
    (folder / ".3" / "half").write_text("")
    assert restore(folder)[0] == 2
    checkpoint.save(folder, 3, state(3), WHO, keep=2)
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]
