"""Options of the Hieros agent (Mattes et al. 2023, appendix; its code where they differ)."""

from dataclasses import dataclass, replace
from typing import Any

from ssmrl.agents.r2i_config import R2IConfig
from ssmrl.errors import UsageError, check_range, unknown

AGGREGATES = ("sum", "mean")


@dataclass(frozen=True)
class HierosConfig(R2IConfig):
    """Options of Hieros; those of R2I are inherited, with the sizes of Hieros.

    They hold for every level, except that `higher_*` replaces an option above level 0. `length`,
    `horizon` and `gamma` count steps of a level; level i acts every `every`^i environment steps.

    Attributes:
        levels: L, how many agents are stacked; 1 is a flat agent, without subgoals.
        every: k, steps of a level for one step of the level above it. Each level is trained k
            times less often than the one below, and keeps k times fewer rows.
        random_top: the highest of several levels sets random subgoals and never learns.
        shared_model: the upper of two levels has no world model; it learns in that of level 0
            (`ssmrl.agents.hieros_shared`), from the same rows. The options of its model,
            `higher_length` and `higher_decoder_scale`, are not read then.
        aggregate: a level's reward is the `sum` of the environment's since its last action, or
            the `mean` (the original's: the sum over k^i).
        code_groups, code_classes: a subgoal is so many categoricals of so many classes.
        code_layers, code_units: hidden layers of the subgoal autoencoder, and the encoder's units
            (the decoder's are as many as features).
        code_kl, code_lr, code_eps: weight of its KL to the uniform distribution, and of Adam.
        extrinsic_weight, subgoal_weight, novelty_weight: of the three rewards' advantages. A
            weight of 0 removes the reward and its critic: `subgoal_weight=0` still shows the
            policy its subgoal, but does not reward it.
        scale_floor, intrinsic_floor: smallest range of returns that advantages are divided by.
        higher_length, higher_horizon, higher_gamma, higher_entropy_coef, higher_decoder_scale: see
            above; None keeps the option of level 0.
        lose_terminal_reward: as the release does, which stores 0 where an episode ends.

    Raises:
        UsageError: an option out of range.
    """

    groups: int = 32
    classes: int = 32
    deter: int = 256
    deter_from: str = "state"
    mlp_layers: int = 2
    mlp_units: int = 512
    cnn_depth: int = 24
    head_layers: int = 2
    rollout: int = 32
    sampler: str = "time_balanced"
    policy_input: str = "output"
    actor_units: int = 256
    critic_units: int = 256
    gamma: float = 0.997
    soft_continue: bool = True
    levels: int = 3
    every: int = 4
    random_top: bool = False
    shared_model: bool = False
    aggregate: str = "sum"
    code_groups: int = 8
    code_classes: int = 8
    code_layers: int = 3
    code_units: int = 64
    code_kl: float = 0.5
    code_lr: float = 1e-4
    code_eps: float = 1e-6
    extrinsic_weight: float = 1.0
    subgoal_weight: float = 0.3
    novelty_weight: float = 0.1
    scale_floor: float = 1.0
    intrinsic_floor: float = 0.05
    higher_length: int | None = None
    higher_horizon: int | None = None
    higher_gamma: float | None = None
    higher_entropy_coef: float | None = None
    higher_decoder_scale: float | None = None
    lose_terminal_reward: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        positive = ("levels", "code_groups", "code_layers", "code_units", "code_lr", "code_eps")
        check_range("agent.", self, "positive", (*positive, "scale_floor", "intrinsic_floor"))
        check_range("agent.", self, "0 or more", ("code_kl",))
        for name, least in (("every", 2), ("code_classes", 2)):
            if getattr(self, name) < least:
                raise UsageError(f"agent.{name} must be at least {least}")
        if self.aggregate not in AGGREGATES:
            raise unknown("aggregate of rewards", self.aggregate, AGGREGATES)
        if self.burn_in:
            raise UsageError(
                "hieros has no burn-in: leave agent.burn_in=0, or set agent.start=stored"
            )
        if self.replay_place != "device":
            raise UsageError(
                f"hieros keeps its replays on the device; got agent.replay_place="
                f"{self.replay_place}: lower agent.replay_size until they fit, or use agent=r2i"
            )
        weights = (self.extrinsic_weight, self.subgoal_weight, self.novelty_weight)
        if min(weights) < 0 or self.extrinsic_weight == 0:
            raise UsageError(
                f"weights of rewards are not negative, the extrinsic one is positive; got {weights}"
            )
        if self.shared_model and (self.levels != 2 or self.random_top):
            raise UsageError(
                "agent.shared_model is for two levels that learn, got agent.levels="
                f"{self.levels} and agent.random_top={self.random_top}: set agent.levels=2 and "
                "agent.random_top=false"
            )
        often = self.every ** (self.levels - 1)
        if self.updates % often:
            raise UsageError(
                f"{self.updates} updates of level 0 follow a rollout of {self.rollout} steps; a "
                f"multiple of every^(levels - 1) = {often} lets level {self.levels - 1} learn "
                "too: raise agent.rollout"
            )
        for level in range(1, self.levels):
            self.at(level)

    def at(self, level: int) -> "HierosConfig":
        """The options of one level, in its own steps, as those of an agent with that level only."""
        if not level:
            return replace(self, levels=1, shared_model=False)
        of_model = () if self.shared_model else ("length", "decoder_scale")
        changes: dict[str, Any] = {
            name: value
            for name in ("horizon", "gamma", "entropy_coef", *of_model)
            if (value := getattr(self, f"higher_{name}")) is not None
        }
        often = self.every**level
        rows = self.updates // often * self.batch * changes.get("length", self.length)
        changes["train_ratio"] = rows / (self.rollout * self.num_envs)
        if not self.shared_model:
            changes["replay_size"] = self.replay_size // often
        return replace(self, levels=1, shared_model=False, **changes)

    @property
    def reward_share(self) -> float:
        """What a level's reward is multiplied by for one step of the level below."""
        return 1.0 if self.aggregate == "sum" else 1 / self.every
