"""Options of the R2I agent, apart from its algorithm and its world model."""

from dataclasses import dataclass

from ssmrl.errors import UsageError, check_range
from ssmrl.replay import sampler
from ssmrl.world_model.config import WorldModelConfig
from ssmrl.world_model.latent import POLICY_INPUTS

STARTS = ("zero", "stored")
PLACES = ("device", "disk")


@dataclass(frozen=True)
class R2IConfig(WorldModelConfig):
    """Options of R2I; those of its world model are inherited.

    Attributes:
        total_steps: environment steps of the whole run; schedules end there.
        num_envs: environments side by side.
        rollout: steps of each between training.
        batch, length: sequences in a batch, and rows of each. Memory is trained over `length`
            rows at most.
        train_ratio: rows replayed for each environment step. `rollout * num_envs * train_ratio`
            must be a whole multiple of `batch * length`: so many updates follow a rollout.
        prefill: environment steps with random actions before training begins.
        replay_size: rows kept, of all environments together.
        replay_place: where they lie: on the `device`, or on `disk`, in files of the run's folder
            (one seed only), for images of which the device cannot hold enough.
        sampler: `uniform` or `time_balanced` (Hieros), with its `sampler_temperature`.
        previous_reward: whether observations tell the reward received on the way to them, as an
            agent needs that has to find out within a trial what pays (`meta/...`): the memory
            reads nothing else of rewards.
        start: what a sequence begins with: `zero`, as at the beginning of an episode (R2I), or
            `stored`, the state that the policy carried there, which is then kept in the replay.
        burn_in: rows read before each sequence only to bring the state up to date.
        policy_input: `output` (h, z), `hidden` (z, x) or `full` (h, z, x).
        actor_layers, actor_units, critic_layers, critic_units: of their networks.
        actor_unimix: share of the uniform distribution in discrete policies.
        critic_limit: the critic's outermost bin in symlog space; it has `bins` as the reward.
        horizon: steps imagined.
        imagined_starts: how many rows of a batch imagination starts from, drawn anew for each
            update; None for all.
        gamma, lam: discount, and weight of longer returns.
        soft_continue: whether what follows an imagined state counts by the chance that the episode
            goes on there, as Hieros and later versions of DreamerV3 do; False judges it hard, 0
            or 1, as R2I: an end that is never likelier than not is then never feared.
        entropy_coef: weight of the policy's entropy; it falls linearly to `entropy_final`
            (None: stays).
        slow_rate, slow_weight: of the critic's moving average, and of the loss towards it.
        model_lr, actor_lr, critic_lr: of Adam; `ssm_learning_rate` is that of the recurrence's
            own parameters, as a multiple of `model_lr`.
        model_eps, actor_eps, critic_eps: of Adam.
        model_clip, actor_clip, critic_clip: largest global norm of a gradient.
        weight_decay: of the world model's matrices, decoupled; never of the recurrence.
        treat_truncation_as_terminal: as the release does, which takes time limits for ends.
    """

    total_steps: int = 500_000
    num_envs: int = 8
    rollout: int = 16
    batch: int = 16
    length: int = 64
    train_ratio: float = 128.0
    prefill: int = 2_000
    replay_size: int = 100_000
    replay_place: str = "device"
    sampler: str = "uniform"
    sampler_temperature: float = 0.3
    previous_reward: bool = False
    start: str = "zero"
    burn_in: int = 0
    policy_input: str = "full"
    actor_layers: int = 2
    actor_units: int = 512
    critic_layers: int = 2
    critic_units: int = 512
    actor_unimix: float = 0.01
    critic_limit: float = 20.0
    horizon: int = 15
    imagined_starts: int | None = None
    gamma: float = 1 - 1 / 333
    lam: float = 0.95
    soft_continue: bool = False
    entropy_coef: float = 3e-4
    entropy_final: float | None = None
    slow_rate: float = 0.02
    slow_weight: float = 1.0
    model_lr: float = 1e-4
    actor_lr: float = 3e-5
    critic_lr: float = 3e-5
    ssm_learning_rate: float = 1.0
    model_eps: float = 1e-8
    actor_eps: float = 1e-5
    critic_eps: float = 1e-5
    model_clip: float = 1000.0
    actor_clip: float = 100.0
    critic_clip: float = 100.0
    weight_decay: float = 0.0
    treat_truncation_as_terminal: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        positive = (
            *("total_steps", "num_envs", "rollout", "batch", "length", "train_ratio"),
            *("replay_size", "horizon", "model_lr", "actor_lr", "critic_lr"),
            *("actor_layers", "actor_units", "critic_layers", "critic_units", "critic_limit"),
            *("model_eps", "actor_eps", "critic_eps", "model_clip", "actor_clip", "critic_clip"),
        )
        check_range("agent.", self, "positive", positive)
        weights = ("burn_in", "entropy_coef", "entropy_final", "slow_weight", "ssm_learning_rate")
        check_range("agent.", self, "0 or more", (*weights, "weight_decay"))
        check_range("agent.", self, "from 0 to 1", ("gamma", "lam", "slow_rate", "actor_unimix"))
        named = {
            "start": STARTS,
            "policy_input": tuple(POLICY_INPUTS),
            "replay_place": PLACES,
        }
        for name, known in named.items():
            if getattr(self, name) not in known:
                raise UsageError(
                    f"agent.{name} is one of {', '.join(known)}; got {getattr(self, name)!r}"
                )
        sampler(self.sampler, self.sampler_temperature)
        rows = self.rollout * self.num_envs * self.train_ratio
        if abs(rows - self.updates * self.batch * self.length) > 1e-6 * rows:
            raise UsageError(
                f"agent.rollout * num_envs * train_ratio = {rows:g} rows to replay after each "
                f"rollout are not a multiple of batch * length = {self.batch * self.length}: "
                f"change agent.rollout={self.rollout} or agent.train_ratio={self.train_ratio:g}"
            )
        if self.capacity < max(self.window, 2 * self.rollout):
            raise UsageError(
                f"agent.replay_size={self.replay_size} leaves {self.capacity} rows for each of "
                f"{self.num_envs} environments: less than a sequence of {self.window} rows or "
                f"two rollouts of {self.rollout} steps"
            )
        if self.prefill < self.num_envs * self.window:
            raise UsageError(
                f"agent.prefill={self.prefill} is less than num_envs * (length + burn_in) = "
                f"{self.num_envs * self.window}: there would be nothing to train on"
            )
        if self.imagined_starts is not None and not (
            0 < self.imagined_starts <= self.batch * self.length
        ):
            raise UsageError(
                f"agent.imagined_starts must lie in 1 to batch * length = "
                f"{self.batch * self.length}; got {self.imagined_starts}"
            )

    @property
    def window(self) -> int:
        """Rows that are read at once."""
        return self.length + self.burn_in

    @property
    def capacity(self) -> int:
        """Rows kept of each environment."""
        return self.replay_size // self.num_envs

    @property
    def updates(self) -> int:
        """Gradient steps after each rollout."""
        return round(self.rollout * self.num_envs * self.train_ratio / (self.batch * self.length))
