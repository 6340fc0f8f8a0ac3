"""The world model of R2I: categorical latents around a memory (Samsami et al. 2024, section 3).

    u[t] = silu(norm(W [z[t-1]; a[t-1]]))     what the memory reads
    x[t], y[t] = memory(x[t-1], u[t])         any memory of ssmrl.memory, parallel over time
    h[t] = silu(W y[t] + b)                   deter
    z[t] ~ q(z | o[t])                        posterior: of the observation alone
    z[t] ~ p(z | h[t])                        prior: what imagination draws from

With `deter_from="state"` (Hieros, Mattes et al. 2023) the prior reads W y[t] + b itself, and
h[t] = symlog(W' x[t] + b').

Because the posterior does not depend on h, all latents of a sequence are drawn at once and
the memory reads them in parallel. Where `reset[t]`, the z, a and x before t are replaced by
those that an episode starts from. Rows: o[t], the action chosen at o[t], the reward received
on arriving at o[t], and whether the episode terminated there.
"""

from typing import NamedTuple

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from ssmrl.envs.contract import Space, feature_size
from ssmrl.errors import UsageError
from ssmrl.memory import Memory as MemorySpec
from ssmrl.memory import Prepared as PreparedMemory
from ssmrl.memory.nnx import Memory, SSMParam
from ssmrl.memory.spec import where_reset
from ssmrl.memory.wrap import add_offsets, zero_offsets
from ssmrl.nets.dreamer import MLP, Affine, Hidden, hidden_init
from ssmrl.nets.one_hot import (
    entropy,
    kl_divergence,
    mix_uniform,
    noise,
    one_hot_mode,
    straight_through,
)
from ssmrl.nets.two_hot import TwoHot, symlog
from ssmrl.shapes import TB, TBF, Array, B, Key, PyTree, Scalar
from ssmrl.world_model.actions import encode_action
from ssmrl.world_model.config import WorldModelConfig
from ssmrl.world_model.latent import Latent, as_vector, features
from ssmrl.world_model.observations import Decoded, Decoder, Encoder


class Batch(NamedTuple):
    """Rows of experience, `(T, B, ...)`.

    Attributes:
        obs: o[t], an element of the observation space.
        action: a[t], chosen at o[t]; that of an episode's last row is not read.
        reward: float32, received on arriving at o[t]; 0 where `reset`.
        reset: bool, o[t] is the first of an episode.
        terminal: bool, the episode terminated at o[t]; False where it was cut by a time limit.
    """

    obs: PyTree
    action: Array
    reward: TB
    reset: TB
    terminal: TB


class Prepared(NamedTuple):
    """Constants of a loop of steps: the memory's, and the latent that episodes start from."""

    memory: PreparedMemory
    initial: Latent  # without batch axes


class Observed(NamedTuple):
    """A sequence with its observations: latents, log-probabilities `(T, *B, G, C)` of z."""

    latent: Latent
    prior: Array
    posterior: Array


class OpenLoop(NamedTuple):
    """Predictions `(T, *B, ...)`: observations as in their space, reward, P(continue)."""

    latent: Latent
    obs: PyTree
    reward: TB
    cont: TB


class WorldModel(nnx.Module):
    """See the top of this file.

    Args:
        config: sizes and weights.
        obs_space: any space of `ssmrl.envs.contract`; images are uint8, square.
        action_space: Discrete, MultiDiscrete or Box; actions are in the units of this space.
        memory: the sequence model; its input is `config.units` wide. That of the paper, with
            P complex modes in `n_blocks` HiPPO systems, is `make("s5", features=units, state=2
            * P, blocks=2 * n_blocks, norm="post", discretization="bilinear")`: it takes the
            real part of modes that come in conjugate pairs at first, we keep one mode of twice
            as many pairs, which does the same. Its `c_init` is `lecun_normal`.
        rngs: its `params` stream makes the parameters.

    Raises:
        UsageError: a space that it cannot read.
    """

    def __init__(
        self,
        config: WorldModelConfig,
        obs_space: Space,
        action_space: Space,
        memory: MemorySpec,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        c = config
        self.config, self.obs_space, self.action_space = config, obs_space, action_space
        stoch = c.groups * c.classes
        self.encoder = Encoder(obs_space, c, rngs=rngs)
        self.posterior_head = MLP(self.encoder.out_dim, 1, c.units, stoch, rngs=rngs)
        self.input = Hidden(stoch + feature_size(action_space), c.units, rngs=rngs)
        self.memory = Memory(memory, c.units, rngs=rngs)
        self.output = Affine(memory.out_dim, c.deter, hidden_init, rngs=rngs)
        self.reads_state = c.deter_from == "state" and bool(jax.tree.leaves(memory.init_carry()))
        if self.reads_state:
            width = as_vector(memory.init_carry(), ()).shape[0]
            self.state_output = Affine(width, c.deter, hidden_init, rngs=rngs)
        self.prior_head = MLP(c.deter, 1, c.units, stoch, rngs=rngs)
        offsets = zero_offsets(memory.init_carry()) if c.initial == "learned" else []
        self.start = nnx.List(SSMParam(x) for x in offsets)
        width = c.deter + stoch
        self.decoder = Decoder(width, obs_space, c, rngs=rngs)
        layers, units = c.head_layers, c.head_units
        self.reward_head = MLP(width, layers, units, c.bins, out_scale=0.0, rngs=rngs)
        self.cont_head = MLP(width, layers, units, 1, rngs=rngs)

    # ------------------------------------------------------------------ states

    def initial(self, batch_shape: tuple[int, ...] = ()) -> Latent:
        """What an episode starts from, before its first observation.

        A learned carry and the mode of the prior at h = 0, or zeros (`config.initial`). The
        original learns that h too, but no gradient ever reaches it.
        """
        c, carry = self.config, self.memory.init_carry()
        deter, stoch = jnp.zeros((c.deter,)), jnp.zeros((c.groups, c.classes))
        if c.initial == "learned":
            carry = add_offsets(carry, [x[...] for x in self.start])
            stoch = one_hot_mode(self.prior(deter))
        one = Latent(deter, stoch, carry)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (*batch_shape, *x.shape)), one)

    def prepare(self) -> Prepared:
        """Constants for many steps with the parameters as they are now."""
        return Prepared(self.memory.prepare(), self.initial())

    def posterior(self, obs: PyTree) -> Array:
        """Log-probabilities of z given o: `(*B, G, C)`."""
        return self._categorical(self.posterior_head(self.encoder(obs)))

    def prior(self, deter: Array) -> Array:
        """Log-probabilities of z given h, `(*B, D)`, or what the prior reads in its place:
        `(*B, G, C)`."""
        return self._categorical(self.prior_head(deter))

    def _categorical(self, logits: Array) -> Array:
        c = self.config
        logits = logits.reshape(*logits.shape[:-1], c.groups, c.classes)
        return mix_uniform(logits, c.unimix)

    # ------------------------------------------------------------------ sequences and steps

    def observe(
        self, start: Latent, previous_action: Array, obs: PyTree, action: Array, reset: TB, key: Key
    ) -> Observed:
        """Reads a sequence of T steps, in parallel where the memory can.

        Equals T calls of `observe_step` with the keys `jax.random.split(key, T)`.

        Args:
            start: the latent before the first row, `(*B,)`; not read where `reset[0]`.
            previous_action: the action before the first row, `(*B, ...)`; likewise.
            obs: rows as in `Batch`, `(T, *B, ...)`.
            action: likewise.
            reset: likewise.
            key: of the samples of z.
        """
        c, prepared = self.config, self.prepare()
        posterior = self.posterior(obs)
        uniform = jax.vmap(lambda k: noise(k, posterior.shape[1:-1]))(
            jax.random.split(key, reset.shape[0])
        )
        stoch = straight_through(posterior, uniform)
        before = _shifted(start.stoch, stoch)
        if c.mask_z_on_reset:
            before = where_reset(reset, prepared.initial.stoch, before)
        u = self._input(before, self._action(_shifted(previous_action, action), reset))
        forget = reset if c.reset_alignment == "exact" else _as_released(reset)
        hidden, y = self.memory.spec.trace(
            prepared.memory, start.hidden, u, forget, start=prepared.initial.hidden
        )
        deter, told = self._read(hidden, y)
        return Observed(Latent(deter, stoch, hidden), self.prior(told), posterior)

    def observe_step(
        self,
        latent: Latent,
        previous_action: Array,
        obs: PyTree,
        reset: B,
        key: Key,
        prepared: Prepared | None = None,
    ) -> Latent:
        """One step of acting, all `(*B, ...)`: the latent once o is seen.

        latent, previous_action: of the step before; not read where `reset`. prepared: from
        `prepare`, saves work in a loop.
        """
        deter, _, hidden = self._step(latent, previous_action, reset, prepared or self.prepare())
        posterior = self.posterior(obs)
        stoch = straight_through(posterior, noise(key, posterior.shape[:-1]))
        return Latent(deter, stoch, hidden)

    def imagine_step(
        self, latent: Latent, action: Array, key: Key, prepared: Prepared | None = None
    ) -> Latent:
        """The next latent after `action` `(*B, ...)`, z drawn from the prior."""
        return self._imagine(latent, action, None, key, prepared or self.prepare())

    def open_loop(
        self,
        start: Latent,
        previous_action: Array,
        obs: PyTree,
        action: Array,
        reset: TB,
        context: int,
        key: Key,
    ) -> OpenLoop:
        """Observes the first `context` rows, then imagines the rest with the recorded actions.

        Arguments otherwise as `observe`. A reset among the imagined rows starts a new episode
        there, also imagined.

        Raises:
            UsageError: `context` is not within 1 .. T.
        """
        steps = reset.shape[0]
        if not 1 <= context <= steps:
            raise UsageError(f"open_loop: context must be 1 to {steps} steps, got {context}")
        prepared = self.prepare()
        key_seen, key_ahead = jax.random.split(key)
        head = jax.tree.map(lambda x: x[:context], (obs, action, reset))
        seen = self.observe(start, previous_action, head[0], head[1], head[2], key_seen).latent

        def step(latent: Latent, at: tuple[Array, B, Key]) -> tuple[Latent, Latent]:
            latent = self._imagine(latent, *at, prepared)
            return latent, latent

        keys = jax.random.split(key_ahead, steps - context)
        ahead = (action[context - 1 : -1], reset[context:], keys)
        last = jax.tree.map(lambda x: x[-1], seen)
        imagined = jax.lax.scan(step, last, ahead)[1]
        latent = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), seen, imagined)
        decoded = self.decode(latent).prediction()
        return OpenLoop(latent, decoded, self.reward(latent).mean(), self.cont(latent).probs)

    def _imagine(
        self, latent: Latent, action: Array, reset: B | None, key: Key, prepared: Prepared
    ) -> Latent:
        deter, told, hidden = self._step(latent, action, reset, prepared)
        prior = self.prior(told)
        return Latent(deter, straight_through(prior, noise(key, prior.shape[:-1])), hidden)

    def _step(
        self, latent: Latent, action: Array, reset: B | None, prepared: Prepared
    ) -> tuple[Array, Array, PyTree]:
        """h, what the prior reads, and x after the latent and the action before."""
        stoch = where_reset(reset, prepared.initial.stoch, latent.stoch)
        u = self._input(stoch, self._action(action, reset))
        hidden, y = self.memory.spec.step(
            prepared.memory, latent.hidden, u, reset, start=prepared.initial.hidden
        )
        return *self._read(hidden, y), hidden

    def _action(self, action: Array, reset: TB | None) -> TBF:
        """Encoded actions before each step, zeros where there is none."""
        encoded = encode_action(self.action_space, action, self.config.action_clip)
        return where_reset(reset, jnp.zeros(()), encoded)

    def _input(self, stoch: Array, action: TBF) -> TBF:
        return self.input(jnp.concatenate([_flat(stoch), action], axis=-1))

    def _read(self, hidden: PyTree, y: TBF) -> tuple[TBF, TBF]:
        """h, and what the prior reads: the same, unless h is read from the state."""
        out = self.output(y)
        if not self.reads_state:
            deter = jax.nn.silu(out)
            return deter, deter
        return symlog(self.state_output(as_vector(hidden, y.shape[:-1]))), out

    # ------------------------------------------------------------------ heads

    def reward(self, latent: Latent) -> TwoHot:
        """The reward received on arriving at this latent."""
        return TwoHot(self.reward_head(features(latent)), self.config.bin_limit)

    def cont(self, latent: Latent) -> distrax.Bernoulli:
        """Whether the episode goes on from this latent: 1 unless it terminated here."""
        return distrax.Bernoulli(logits=self.cont_head(features(latent))[..., 0])

    def decode(self, latent: Latent) -> Decoded:
        """The distribution over the observation at this latent."""
        return self.decoder(features(latent))

    # ------------------------------------------------------------------ loss

    def loss(
        self, batch: Batch, start: Latent, previous_action: Array, key: Key
    ) -> tuple[Scalar, tuple[Latent, dict[str, Scalar]]]:
        """Mean over rows of the weighted likelihoods and KLs (DreamerV3, equations 4 and 5).

        Args:
            batch: `(T, B, ...)`.
            start: as in `observe`.
            previous_action: likewise.
            key: likewise.

        Returns:
            The loss; the latents `(T, B)`, which imagination starts from, and metrics: each
            loss unweighted, `kl` before free nats and `kl_at_reset` at first rows (NaN if there
            are none), entropies per row in nats.
        """
        c = self.config
        seen = self.observe(start, previous_action, batch.obs, batch.action, batch.reset, key)
        prior, posterior = seen.prior, seen.posterior
        fixed = jax.lax.stop_gradient
        x = features(seen.latent)
        reward = TwoHot(self.reward_head(x), c.bin_limit)
        cont = distrax.Bernoulli(logits=self.cont_head(x)[..., 0])
        decoded = self.decoder(x).losses(batch.obs)
        losses = {f"decoder/{name}": loss for name, loss in decoded.items()}
        scales = dict.fromkeys(losses, c.decoder_scale)
        losses |= {
            "reward": -reward.log_prob(batch.reward),
            "cont": -cont.log_prob(1 - batch.terminal.astype(jnp.float32)),
            "dyn": jnp.maximum(kl_divergence(fixed(posterior), prior), c.free_nats),
            "rep": jnp.maximum(kl_divergence(posterior, fixed(prior)), c.free_nats),
        }
        scales |= {
            "reward": c.reward_scale,
            "cont": c.cont_scale,
            "dyn": c.dyn_scale,
            "rep": c.rep_scale,
        }
        means = {name: jnp.mean(loss) for name, loss in losses.items()}
        loss = sum((scales[name] * mean for name, mean in means.items()), jnp.zeros(()))
        return loss, (seen.latent, {"loss": loss, **means, **_diagnostics(seen, batch.reset)})


def _diagnostics(seen: Observed, reset: TB) -> dict[str, Scalar]:
    seen = jax.lax.stop_gradient(seen)
    kl = kl_divergence(seen.posterior, seen.prior)
    return {
        "kl": jnp.mean(kl),
        "kl_at_reset": jnp.sum(kl * reset) / jnp.sum(reset),
        "prior_entropy": jnp.mean(entropy(seen.prior)),
        "posterior_entropy": jnp.mean(entropy(seen.posterior)),
    }


def _flat(stoch: Array) -> Array:
    return stoch.reshape(*stoch.shape[:-2], -1)


def _shifted(first: Array, x: Array) -> Array:
    """`x[t - 1]` at t, `first` at 0."""
    return jnp.concatenate([first[None].astype(x.dtype), x[:-1]])


def _as_released(reset: TB) -> TB:
    """The flags one step early, except the last; the published code aligns them so."""
    late = jnp.zeros_like(reset[:1])
    return jnp.concatenate([reset[1:-1], late, reset[-1:]]) if reset.shape[0] > 1 else reset
