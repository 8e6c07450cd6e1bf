"""What to make of a video: checked as a whole before any work starts."""

from dataclasses import dataclass, field

from serve.errors import InputError
from serve.media.video.source import Selection
from serve.video.outputs import ENCODERS, OUTPUTS
from serve.video.shares import Format, require_parquet


@dataclass(frozen=True)
class Settings:
    """How one video is segmented and written."""

    output: str = "overlay"
    """One of `serve.video.outputs.OUTPUTS`."""
    opacity: float = 0.5
    """Of the colours over the frame, in [0, 1]."""
    codec: str = "h264"
    """One of `serve.video.outputs.ENCODERS`."""
    crf: int | None = None
    """Quality; less is better and larger. None is the codec's default."""
    preset: str | None = None
    """Speed of the encoder; None is the codec's default."""
    tau: float | None = None
    """Strength of the correction, see `Segmenter`."""
    selection: Selection = field(default_factory=Selection)
    smooth: float = 0.0
    """Time constant, in seconds, over which scores are averaged; 0 is off."""
    shares: Format | None = None
    """Also write each class's share of every frame to a table beside the output, in this format."""
    reconnect: float = 30.0
    """How long, in seconds, to try to get a live source back that broke off; 0 is not at all."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            InputError: a value outside its range, an option that this output has no use for, or a package
                that is missing.
        """
        if self.shares == "parquet":
            require_parquet()
        for option, value, known in (("output", self.output, OUTPUTS), ("codec", self.codec, ENCODERS)):
            if value not in known:
                raise InputError(f"--{option} {value} is not known; choose one of {', '.join(known)}.")
        encoder = ENCODERS[self.codec]
        if OUTPUTS[self.output].lossless and (self.codec != "h264" or self.crf is not None or self.preset):
            raise InputError(
                f"--output {self.output} is lossless and has a codec of its own; leave --codec, --crf and "
                "--preset out."
            )
        if self.crf is not None and not 0 <= self.crf <= encoder.worst:
            raise InputError(
                f"--crf {self.crf} is not in the range of {self.codec}, which is 0 to {encoder.worst}."
            )
        if self.preset is not None and self.preset not in encoder.presets:
            raise InputError(
                f"--preset {self.preset} is none of {self.codec}'s, which are {', '.join(encoder.presets)}."
            )
        if self.smooth < 0:
            raise InputError(f"--smooth {self.smooth:g} is negative; give a time in seconds, such as 0.1.")
        if not self.reconnect >= 0:  # also catches nan
            raise InputError(f"--reconnect {self.reconnect:g} is no time; give seconds, or 0 not to try.")
        chosen = self.selection
        if chosen.end is not None and chosen.end <= chosen.start:
            raise InputError(
                f"--end {float(chosen.end):g} is not after --start {float(chosen.start):g}; exchange them."
            )
