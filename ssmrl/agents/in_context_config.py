"""Options of the in-context agent, apart from its algorithm."""

from dataclasses import dataclass

from ssmrl.errors import UsageError, check_range


@dataclass(frozen=True)
class InContextConfig:
    """Options of recurrent PPO.

    Attributes:
        total_steps: environment steps of the whole run; the schedules end there.
        num_envs: B, environments side by side.
        rollout: T, steps of each between updates. Credit does not reach back further, so
            make it at least the span that has to be remembered.
        epochs: passes over a rollout.
        minibatches: per epoch; must divide num_envs.
        learning_rate: of Adam (epsilon 1e-5).
        anneal: let the learning rate fall linearly to 0.
        ssm_learning_rate: that of the recurrence's own parameters, as a multiple.
        weight_decay: decoupled; never applied to the recurrence's own parameters.
        max_grad_norm: global norm at which gradients are clipped.
        gamma, gae_lambda: discount, and decay of the advantage estimate.
        clip: of the probability ratio.
        value_clip: of the value's move, in units of return; None for none.
        value_coef, entropy_coef: weights in the loss.
        entropy_final: weight of the entropy at the end, reached linearly; None: constant.
        normalize_reward: divide rewards by the deviation of their running discounted sum.
        normalize_observation: standardise observations; Box observation spaces only.
        previous_action, previous_reward: whether the policy is told them. An action at random
            is noise to a memory: leave it out where the observation says all.
        encoder, head: widths of the hidden layers.
        state_std: let the deviation of actions in a Box depend on the state, for tasks of which
            some want more noise than others; else there is one for all.
        image_depth: channels after the first convolution of an image; each further one doubles
            them and halves the image, down to 4 x 4.
    """

    total_steps: int = 500_000
    num_envs: int = 64
    rollout: int = 104
    epochs: int = 4
    minibatches: int = 4
    learning_rate: float = 1e-3
    anneal: bool = False
    ssm_learning_rate: float = 1.0
    weight_decay: float = 0.0
    max_grad_norm: float = 0.5
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    value_clip: float | None = None
    value_coef: float = 0.5
    entropy_coef: float = 0.01
    entropy_final: float | None = None
    normalize_reward: bool = False
    normalize_observation: bool = False
    previous_action: bool = True
    previous_reward: bool = True
    encoder: tuple[int, ...] = (64,)
    head: tuple[int, ...] = (64,)
    state_std: bool = False
    image_depth: int = 16

    def __post_init__(self) -> None:
        positive = (
            "total_steps",
            "num_envs",
            "rollout",
            "epochs",
            "minibatches",
            "learning_rate",
            "max_grad_norm",
            "clip",
            "value_clip",
            "image_depth",
        )
        check_range("agent.", self, "positive", positive)
        weights = ("ssm_learning_rate", "weight_decay", "value_coef", "entropy_coef")
        check_range("agent.", self, "0 or more", (*weights, "entropy_final"))
        check_range("agent.", self, "from 0 to 1", ("gamma", "gae_lambda"))
        if self.num_envs % self.minibatches:
            raise UsageError(
                f"agent.minibatches={self.minibatches} must divide agent.num_envs="
                f"{self.num_envs}: a minibatch is a number of whole environments"
            )
        if not self.encoder or min(*self.encoder, *self.head, 1) < 1:
            raise UsageError(
                "agent.encoder needs at least one layer, and all widths must be positive; got "
                f"encoder={list(self.encoder)}, head={list(self.head)}"
            )
