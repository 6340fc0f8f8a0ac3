"""A ring in files: the batches of one on the device, and rows that outlive a checkpoint."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl import replay
from ssmrl.errors import UsageError
from tests.replay.test_ring import CAPACITY, ENVS, ROW, rows_from

EACH, UPDATES = 4, 2  # rows of an update, and how many of them may be thrown away
OWNER = {"env": "numbers", "seed": 3}


def on_disk(**changes):
    options = {"row": ROW, "capacity": CAPACITY, "num_envs": ENVS, "per_update": EACH}
    return replay.Disk(**options | changes)


@jax.jit
def update(ring, first):
    """The ring after four rows of each environment, some of them left out; and a batch of it."""
    rows = rows_from(0, EACH)
    rows = {"id": rows["id"] + first, "pair": rows["pair"].astype(jnp.float32) + first}
    key = jax.random.key(first)
    valid = jax.random.bernoulli(key, jnp.array([1.0, 0.8, 0.3]), (EACH, ENVS))
    ring = replay.write(ring, rows, valid)
    return ring, replay.sample(ring, key, 32, 3, replay.sampler("uniform"))


def updated(ring, steps):
    """The rings after each of some updates, and the batches, one update after the other."""
    rings, batches = [], []
    for step in steps:
        ring, batch = update(ring, EACH * step)
        rings.append(ring)
        batches.append(jax.device_get(batch))
    return rings, batches


def begun(folder, disk=None):
    disk = disk or on_disk()
    disk.create(folder, UPDATES, OWNER)
    return replay.empty(disk, CAPACITY, ENVS)


def reopened(folder, ring, updates=UPDATES, owner=OWNER, **changes):
    """The same ring as another process sees it."""
    disk = on_disk(**changes)
    disk.reopen(folder, updates, owner, *jax.device_get((ring.head, ring.size)))
    return ring._replace(rows=disk)


def test_both_places_give_the_same_batches_bit_for_bit(tmp_path):
    _, there = updated(begun(tmp_path / "rows"), range(2, 22))  # round the files three times
    rings, here = updated(replay.empty(ROW, CAPACITY, ENVS), range(2, 22))
    assert int(rings[-1].size.min()) == CAPACITY
    jax.tree.map(np.testing.assert_array_equal, there, here)


def test_what_was_written_after_a_checkpoint_costs_it_no_row(tmp_path):
    rings, batches = updated(begun(tmp_path / "rows"), range(2, 16))
    rings[-1].rows.flush()
    kept = -1 - UPDATES  # the oldest checkpoint, updates and all that followed being lost
    _, again = updated(reopened(tmp_path / "rows", rings[kept]), range(16 - UPDATES, 16))
    jax.tree.map(np.testing.assert_array_equal, again, batches[-UPDATES:])
    with pytest.raises(UsageError, match="expected all rows of the checkpoint"):
        reopened(tmp_path / "rows", rings[kept - 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"owner": OWNER | {"seed": 4}}, r"expected owner.json that names .*'seed': 4"),
        ({"num_envs": 2}, r"expected id.npy of int32\[2, 19\]"),
        ({"row": ROW | {"pair": ROW["id"]}}, r"expected pair.npy of int32\[3, 19\]"),
        ({"row": ROW | {"more": ROW["id"]}}, "expected more.npy; put its files back"),
        ({"updates": 3}, "spare rows for 2 updates, but checkpoint_every .* is 3: lower one"),
    ],
)
def test_files_that_are_not_those_of_the_state_are_refused(tmp_path, changes, message):
    ring = begun(tmp_path / "rows")
    with pytest.raises(UsageError, match=message):
        reopened(tmp_path / "rows", ring, **changes)


def test_files_made_anew_do_not_pass_for_those_of_a_state(tmp_path):
    rings, _ = updated(begun(tmp_path / "rows"), [2])
    begun(tmp_path / "rows")
    with pytest.raises(UsageError, match="expected all rows of the checkpoint"):
        reopened(tmp_path / "rows", rings[0])
    shutil.rmtree(tmp_path / "rows")
    with pytest.raises(UsageError, match="is not the replay that this run wrote: expected owner"):
        reopened(tmp_path / "rows", rings[0])


def test_every_byte_is_reserved_when_the_files_are_made(tmp_path):
    disk = begun(tmp_path / "rows").rows
    slots = CAPACITY + UPDATES * EACH
    assert disk.nbytes == replay.nbytes(ROW, slots, ENVS) == 12 * slots * ENVS
    assert (tmp_path / "rows" / "pair.npy").stat().st_blocks > 0


def test_a_replay_that_the_disk_cannot_hold_leaves_nothing_behind(tmp_path):
    with pytest.raises(UsageError, match=r"needs .* on disk, but .* left; lower agent.replay_size"):
        begun(tmp_path / "rows", on_disk(capacity=10**15))
    assert not list(tmp_path.iterdir())


def test_a_replay_without_a_folder_cannot_be_written():
    ring = replay.empty(on_disk(), CAPACITY, ENVS)
    with pytest.raises(UsageError, match="has to be given a folder first"):
        jax.eval_shape(update, ring, 0)
