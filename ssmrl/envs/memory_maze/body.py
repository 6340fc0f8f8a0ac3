"""How the agent moves: a rolling ball with a steered head, reduced to the plane.

The original is a MuJoCo model: 22 kg on a ball of radius 0.2 m, a roll motor and a steering
motor, friction with the ground and with walls. Walls are sticky: their friction brakes the
ball, lifts it and twists its heading. The constants were fitted to recorded motion; one control
step is predicted to about 0.003 cells and 0.5 degrees. Metres, seconds and kilograms in here,
but positions in cells of 2 m.
"""

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.shapes import Array, Scalar

CELL = 2.0  # m
CONTROL_PERIOD = 0.25  # s
RADIUS = 0.2
TOUCH = 0.3873  # cells between the centres of the ball and of a target it meets

_MASS, _GRAVITY = 22.0, 9.81
_ROLL_INERTIA, _ROLL_DAMPING, _ROLL_TORQUE = 0.016, 5.0, 50.0
_YAW_INERTIA, _YAW_DAMPING, _YAW_TORQUE = 1.2, 20.0, 30.0
_TWIST_FRICTION = 0.02  # m, times the load: torque of the ground against turning
_ROLL_FACTOR = RADIUS**2 / _ROLL_INERTIA
_ROLL_MASS = 1 / (1 / _MASS + _ROLL_FACTOR)  # that a slip along the heading feels
_SLIDE_MASS = 1 / (1 / _MASS + RADIUS**2 / _YAW_INERTIA)  # that a slip along a wall feels

FORWARD = (0, 1, 0, 0, 1, 1)  # by action: noop, forward, left, right, forward+left, +right
TURN = (0, 0, 1, -1, 1, -1)


@struct.dataclass
class Body:
    """position: (2,) cells, x right and y up from the inner corner. velocity: (2,) m/s.

    heading: () rad, anticlockwise from x. yaw_rate: () rad/s. roll: () m/s, speed of the ball's
    surface. lift: () N, what walls carry of the weight. All float32.
    """

    position: Array
    velocity: Array
    heading: Scalar
    yaw_rate: Scalar
    roll: Scalar
    lift: Scalar


def at_rest(position: Array, heading: Scalar) -> Body:
    """A body that stands at `position: (2,)` cells and looks along `heading: ()` rad."""
    zero = jnp.zeros((), jnp.float32)
    return Body(position, jnp.zeros(2, jnp.float32), heading, zero, zero, zero)


def move(
    body: Body, action: Scalar, free: Array, targets: Array, substeps: int
) -> tuple[Body, Array]:
    """The body after one control step of 0.25 s, and which targets it met on its way: (K,) bool.

    action: () integer. free: (n, n) bool, [y, x] with the outer wall. targets: (K, 2) cells.
    substeps: static; 25 is what the constants were fitted for.
    """
    forward = jnp.asarray(FORWARD, jnp.float32)[action]
    turn = jnp.asarray(TURN, jnp.float32)[action]
    h = CONTROL_PERIOD / substeps

    def substep(_: int, carry: tuple[Body, Array]) -> tuple[Body, Array]:
        body, met = carry
        body = _substep(body, forward, turn, free, h)
        away = targets - body.position
        return body, met | (jnp.sum(away * away, axis=-1) <= TOUCH**2)

    none = jnp.zeros(targets.shape[0], bool)
    return jax.lax.fori_loop(0, substeps, substep, (body, none))


def _substep(body: Body, forward: Scalar, turn: Scalar, free: Array, h: float) -> Body:
    """`h` seconds."""
    v, yaw, roll = body.velocity, body.yaw_rate, body.roll
    ahead = jnp.stack([jnp.cos(body.heading), jnp.sin(body.heading)])
    roll = roll + h * (RADIUS * _ROLL_TORQUE * forward - _ROLL_DAMPING * roll) / _ROLL_INERTIA
    yaw = yaw + h * (_YAW_TORQUE * turn - _YAW_DAMPING * yaw) / _YAW_INERTIA
    load = jnp.maximum(_MASS * _GRAVITY - body.lift, 0.0)
    twist = h * _TWIST_FRICTION * load / _YAW_INERTIA
    yaw = jnp.sign(yaw) * jnp.maximum(jnp.abs(yaw) - twist, 0.0)

    aside = jnp.stack([-ahead[1], ahead[0]])
    along = -0.94 * _ROLL_MASS * (jnp.sum(v * ahead) - roll)
    across = -0.35 * _MASS * jnp.sum(v * aside)
    along, across = _within(along, across, load * h)
    v = v + (along * ahead + across * aside) / _MASS
    roll = roll - along * _ROLL_FACTOR

    lift = jnp.zeros_like(body.lift)
    for normal, gap, solid in _contacts(body.position, free):
        v, yaw, roll, push = _contact(v, yaw, roll, normal, gap, solid, ahead, h)
        lift = lift + push / h

    roll_share = _ROLL_INERTIA / (_ROLL_INERTIA + h * _ROLL_DAMPING)
    yaw_share = _YAW_INERTIA / (_YAW_INERTIA + h * _YAW_DAMPING)
    roll = body.roll + (roll - body.roll) * roll_share
    yaw = body.yaw_rate + (yaw - body.yaw_rate) * yaw_share
    return Body(body.position + h / CELL * v, v, body.heading + h * yaw, yaw, roll, lift)


def _contacts(position: Array, free: Array) -> list[tuple[Array, Scalar, Scalar]]:
    """What the ball can meet: the two nearest faces of its cell, and the corner between them.

    For each the direction from it to the ball (2,), the gap in metres (negative inside) and
    whether it is there: a corner counts only where both faces are open.
    """
    cell = jnp.floor(position).astype(jnp.int32)
    side = jnp.where(position - cell.astype(jnp.float32) > 0.5, 1, -1)  # of the nearest faces
    corner = (cell + (side + 1) // 2).astype(jnp.float32)
    x, y = cell + 1  # in the grid with its outer wall
    wall_x, wall_y = ~free[y, x + side[0]], ~free[y + side[1], x]
    wall_corner = ~free[y + side[1], x + side[0]] & ~wall_x & ~wall_y
    away = CELL * (position - corner)
    distance = jnp.sqrt(jnp.sum(away * away) + 1e-12)
    out = -side.astype(jnp.float32)
    zero = jnp.zeros((), jnp.float32)
    return [
        (jnp.stack([out[0], zero]), out[0] * away[0] - RADIUS, wall_x),
        (jnp.stack([zero, out[1]]), out[1] * away[1] - RADIUS, wall_y),
        (away / distance, distance - RADIUS, wall_corner),
    ]


def _contact(
    v: Array,
    yaw: Scalar,
    roll: Scalar,
    normal: Array,
    gap: Scalar,
    solid: Scalar,
    ahead: Array,
    h: float,
) -> tuple[Array, Scalar, Scalar, Scalar]:
    """Velocity, yaw rate and roll after the wall's impulses, and its vertical one (N s)."""
    aim = jnp.where(gap > 0, -gap / h, -0.02 * gap / h)  # speed away from the wall to end up with
    press = jnp.where(solid, _MASS * jnp.maximum(aim - jnp.sum(v * normal), 0.0), 0.0)
    v = v + press / _MASS * normal
    edge = jnp.stack([-normal[1], normal[0]])
    facing = jnp.sum(ahead * normal)
    rub = -0.25 * _SLIDE_MASS * (jnp.sum(v * edge) - RADIUS * yaw)
    lift = -0.25 / _ROLL_FACTOR * roll * facing
    rub, lift = _within(rub, lift, press)
    v = v + rub / _MASS * edge
    return v, yaw - RADIUS / _YAW_INERTIA * rub, roll + _ROLL_FACTOR * facing * lift, lift


def _within(a: Scalar, b: Scalar, most: Scalar) -> tuple[Scalar, Scalar]:
    """`(a, b)` shortened to the length `most` where it is longer (friction coefficient 1)."""
    scale = jnp.minimum(1.0, most / jnp.sqrt(a * a + b * b + 1e-12))
    return a * scale, b * scale
