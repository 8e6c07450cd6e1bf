"""What is trained: hosts with and without each balancing, and the settings of every kind of shift."""

from adapt.config.choices import BALANCES
from adapt.run.cards import ADAPTED_TAU, DEFAULT_TAU

SEEDS = (0, 1, 2)

PLAIN = ("method.balance=off",)
LOSS = ("method.balance=logit-adjustment",)
BALANCED = ("method.balance=online", "method.statistics_warmup={quarter}")
ONLINE = (*BALANCED, "method.tau=0.1")
HALF_ONLINE, HALF_LOSS = (*BALANCED, "method.tau=0.5"), (*LOSS, "method.adjustment_tau=0.5")
WITHOUT_DENSITY = (*ONLINE, "method.density_weight=0")
# No camera here sees a bonnet, so DAFormer's ignored rows are not for them; short runs want a faster teacher.
TEACHER = "method.teacher_momentum=0.99"
DACS = ("method.host=dacs", TEACHER)
DAFORMER = ("method.host=daformer", TEACHER, "method.ignored_rows=[0, 0]")
MIC = ("method.host=mic", TEACHER, "method.ignored_rows=[0, 0]", "method.mask_patch=16")

ARMS: dict[str, tuple[str, ...]] = {
    # Even sampling, as DACS has it.
    "source": ("method.host=source", "method.rare_class_temperature=null", *PLAIN),
    "dacs": (*DACS, *PLAIN),
    "dacs-online": (*DACS, *ONLINE),
    "dacs-logit-adjustment": (*DACS, *LOSS),
    "dacs-online-no-density": (*DACS, *WITHOUT_DENSITY),
    # Against self-training that ends below source-only training.
    "dacs-source-start": (*DACS, *PLAIN, "method.source_start={third}"),
    "dacs-class-confidence": (*DACS, *PLAIN, "method.confidence_per=class"),
    "daformer": (*DAFORMER, *PLAIN),
    "daformer-online": (*DAFORMER, *ONLINE),
    "daformer-logit-adjustment": (*DAFORMER, *LOSS),
    "daformer-online-no-density": (*DAFORMER, *WITHOUT_DENSITY),
    "dacs-few-labels": (*DACS, *PLAIN),
    # Other strengths of what balances in training: the paper's is 0.1, the rival's 1.
    "dacs-online-0.5": (*DACS, *HALF_ONLINE),
    "dacs-logit-adjustment-0.5": (*DACS, *HALF_LOSS),
    # Statistics that forget ten times as fast.
    "dacs-online-0.5-momentum-0.9": (*DACS, *HALF_ONLINE, "method.momentum=0.9"),
    "daformer-online-0.5": (*DAFORMER, *HALF_ONLINE),
    "daformer-logit-adjustment-0.5": (*DAFORMER, *HALF_LOSS),
    "mic": (*MIC, *PLAIN),
    "mic-online": (*MIC, *ONLINE),
    # Without a source, from the finished source-only run.
    "source-free": (*DACS, *HALF_LOSS),
    "source-free-start": (*DACS, *PLAIN),
}
"""In the order in which they are trained: of each seed, every arm on all shifts before the next arm."""
BEGUN = dict.fromkeys(("source-free", "source-free-start"), "source")
"""Arms that go on from the finished run of another arm, of the same shift and seed, on the target alone: for
a quarter of the iterations, at a fortieth of the learning rates, as chosen on seed 0 of all shifts."""
STARTED = ("source-free-start",)
"""Of these, those that are but set to the target: one iteration is the least that a run has."""
WITH_LABELS = ("dacs-few-labels",)
"""Arms that train on the few labelled target pictures too."""
TITLES = {
    "source": "source only",
    "dacs": "DACS",
    "dacs-online": "DACS, online",
    "dacs-online-no-density": "DACS, online, without density",
    "dacs-logit-adjustment": "DACS, logit-adjusted loss",
    "dacs-source-start": "DACS, begun on the source alone",
    "dacs-class-confidence": "DACS, weights per class",
    "daformer": "DAFormer",
    "daformer-online": "DAFormer, online",
    "daformer-online-no-density": "DAFormer, online, without density",
    "daformer-logit-adjustment": "DAFormer, logit-adjusted loss",
    "dacs-few-labels": "DACS, 16 labelled target pictures",
    "dacs-online-0.5": "DACS, online, tau 0.5",
    "dacs-logit-adjustment-0.5": "DACS, logit-adjusted loss, tau 0.5",
    "dacs-online-0.5-momentum-0.9": "DACS, online, tau 0.5, momentum 0.9",
    "daformer-online-0.5": "DAFormer, online, tau 0.5",
    "daformer-logit-adjustment-0.5": "DAFormer, logit-adjusted loss, tau 0.5",
    "mic": "MIC",
    "mic-online": "MIC, online",
    "source-free": "source-free",
    "source-free-start": "source-free, set to the target alone",
}

COMMON = (
    "data.crop=[128, 128]",
    "data.workers=0",
    "model.decoder=segformer",
    "model.width=64",
    "training.batch=4",
    "training.log_every=20",
    "training.save_every=100",
)
SETTINGS: dict[str, tuple[str, ...]] = {
    "real": (
        "data.size=[192, 256]",
        'model.encoder={factory: "{data}/encoders/efficientnet_lite0.py:build"}',
        "training.iterations=300",
        "training.warmup=20",
        "training.encoder_lr=5.0e-4",
        "training.decoder_lr=3.0e-3",
    ),
    # The demo's network: small enough to learn from nothing.
    "small": (
        "model.encoder={config: {model_type: resnet, embedding_size: 32, hidden_sizes: [32, 64, 96, 128], "
        "depths: [1, 1, 1, 1], layer_type: basic}}",
        "training.iterations=500",
        "training.warmup=30",
        "training.encoder_lr=4.0e-3",
        "training.decoder_lr=4.0e-3",
    ),
}
NO_THINGS = "method.feature_distance=0"
"""DAFormer's distance to the pretrained encoder needs one, and things that ImageNet knows."""


def settings_of(arm: str, kind: str, things: bool, data: str, seed: int) -> tuple[str, ...]:
    """Everything that `adapt train --set` takes for a run.

    Args:
        arm: a key of ARMS.
        kind: a key of SETTINGS, from the shift's recipe.
        things: whether the encoder is pretrained and knows some of the classes as things.
        data: folder of the data, where the encoder is too.
        seed: of the training.
    """
    settings = [*COMMON, *(_begun(SETTINGS[kind], arm) if arm in BEGUN else SETTINGS[kind]), *ARMS[arm]]
    if arm in BEGUN:  # its network is there already
        settings = [line for line in settings if not line.startswith("model.")]
    if arm.startswith(("daformer", "mic")) and not things:
        settings.append(NO_THINGS)
    iterations = next(int(s.partition("=")[2]) for s in settings if s.startswith("training.iterations="))
    values = {"data": data, "quarter": iterations // 4, "third": iterations // 3}
    for name, value in values.items():
        settings = [line.replace(f"{{{name}}}", str(value)) for line in settings]
    return (*settings, f"training.seed={seed}")


def _begun(settings: tuple[str, ...], arm: str) -> list[str]:
    """The settings of a kind for an arm that goes on from a finished run."""
    changed = []
    for line in settings:
        key, _, value = line.partition("=")
        if key.endswith("_lr"):
            line = f"{key}={float(value) / 40:.3g}"
        elif key == "training.iterations":
            line = f"{key}={1 if arm in STARTED else int(value) // 4}"
        changed.append(line)
    return changed


def default_of(arm: str) -> tuple[str, str]:
    """Way and strength of the correction that an export of an arm's runs has where nothing speaks against it.

    Anchors are those of the source where there is one, pooled over classes; the strength is that of
    adapt/run/cards.py, and none after a loss that takes the shares off (adapt/balance/bias.py).
    """
    if arm in BEGUN:
        return "source-free, class anchors", f"{ADAPTED_TAU:g}"
    return "class anchors", "0" if LOSS[0] in ARMS[arm] else f"{DEFAULT_TAU:g}"


def available(arm: str) -> bool:
    """Whether this version of the project can train it."""
    wanted = next(s.partition("=")[2] for s in ARMS[arm] if s.startswith("method.balance="))
    return wanted in BALANCES
