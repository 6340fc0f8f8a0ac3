"""Sizes and weights of a world model."""

from dataclasses import dataclass

from ssmrl.errors import UsageError, check_range, unknown

INITIALS = ("learned", "zeros")
ALIGNMENTS = ("exact", "release")
SOURCES = ("output", "state")


@dataclass(frozen=True)
class WorldModelConfig:
    """Options of `WorldModel`; the weights are R2I's, the sizes smaller.

    Attributes:
        groups, classes: G categoricals of C classes make one latent z.
        deter: D, width of what is read out of the memory.
        deter_from: what of the memory h is read from: its `output` (R2I), or its `state`, real
            and imaginary parts (Hieros, where the prior still reads the output); the output
            where there is no state.
        units: H, width of the memory's input and of the layers before the latent's logits.
        unimix: share of the uniform distribution in every categorical.
        initial: what an episode starts from: a `learned` carry and the mode of the prior, or
            `zeros` throughout.
        mlp_layers, mlp_units: of the encoder and decoder of vectors.
        cnn_depth: channels of the first convolution of images; each next one has twice as many.
        head_layers, head_units: of the reward and continue heads.
        bins, bin_limit: of the reward: bins, and the outermost one in symlog space.
        decoder_scale, reward_scale, cont_scale: weights of the three likelihoods.
        dyn_scale, rep_scale: weights of the KL that trains the prior, and the posterior.
        free_nats: KL below which neither is trained.
        action_clip: largest size of an action that is read; larger ones are shortened.
        reset_alignment: `release` gives resets to the memory one step early, as the published
            code does in training (not in acting); for comparison only.
        mask_z_on_reset: False lets the latent before a reset through in training, as it does.

    Raises:
        UsageError: an option out of range.
    """

    groups: int = 16
    classes: int = 16
    deter: int = 256
    deter_from: str = "output"
    units: int = 256
    unimix: float = 0.01
    initial: str = "learned"
    mlp_layers: int = 1
    mlp_units: int = 256
    cnn_depth: int = 16
    head_layers: int = 1
    head_units: int = 256
    bins: int = 255
    bin_limit: float = 20.0
    decoder_scale: float = 1.0
    reward_scale: float = 1.0
    cont_scale: float = 1.0
    dyn_scale: float = 0.5
    rep_scale: float = 0.1
    free_nats: float = 1.0
    action_clip: float = 1.0
    reset_alignment: str = "exact"
    mask_z_on_reset: bool = True

    def __post_init__(self) -> None:
        if self.initial not in INITIALS:
            raise unknown("initial state", self.initial, INITIALS)
        if self.reset_alignment not in ALIGNMENTS:
            raise unknown("reset alignment", self.reset_alignment, ALIGNMENTS)
        if self.deter_from not in SOURCES:
            raise unknown("source of h", self.deter_from, SOURCES)
        sizes = ("groups", "deter", "units", "mlp_layers", "mlp_units", "cnn_depth", "head_units")
        check_range("world model: ", self, "positive", (*sizes, "bin_limit", "action_clip"))
        weights = ("decoder_scale", "reward_scale", "cont_scale", "dyn_scale", "rep_scale")
        check_range("world model: ", self, "0 or more", (*weights, "free_nats"))
        if self.classes < 2 or self.bins < 2 or self.head_layers < 0:
            raise UsageError(
                "world model: needs classes >= 2, bins >= 2 and head_layers >= 0; got "
                f"{self.classes}, {self.bins} and {self.head_layers}"
            )
        if not 0 <= self.unimix < 1:
            raise UsageError(f"world model: unimix must lie in [0, 1), got {self.unimix}")
