"""What a run is given beside pictures: strength and profile, where they are not the graph's defaults."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.card import Correction, of_profile
from serve.errors import InputError
from serve.inference.runtime import Runtime
from serve.inference.sizes import Behind

TAU_RANGE = (0.0, 2.0)


@dataclass(frozen=True)
class Chosen:
    """One of the corrections of a graph, as it runs and as the file describes it."""

    runtime: Runtime
    number: int
    """Of the profile; 0 without profiles."""

    @property
    def correction(self) -> Correction | None:
        return self.runtime.info.under(self.number).correction

    @property
    def names(self) -> tuple[str, ...]:
        """Of all profiles."""
        return tuple(each.name for each in self.runtime.info.profiles)

    @property
    def name(self) -> str:
        """Of this one; empty without profiles."""
        return self.names[self.number] if self.names else ""

    @property
    def metadata(self) -> dict[str, str]:
        """As of a file with this correction alone."""
        return of_profile(self.runtime.metadata, self.number)

    def check_tau(self, tau: float | None) -> None:
        """Raise InputError unless `tau` is None or one that the graph can take."""
        if tau is None:
            return
        low, high = TAU_RANGE
        if not low <= tau <= high:
            raise InputError(f"tau is {tau:g}, but must be between {low:g} and {high:g}.")
        if "tau" not in {tensor.name for tensor in self.runtime.inputs}:
            folded = f"tau = {self.correction.tau:g} folded in" if self.correction else "no correction"
            raise InputError(
                f"{self.runtime.path} has {folded} and takes no other; leave --tau out, or export it again "
                "with --runtime-tau."
            )

    def behind(self, tau: float | NDArray[Any] | None) -> Behind:
        """What stands behind the scores at a strength; None is the graph's own."""
        correction, card = self.correction, self.runtime.info.card
        if correction is None:
            return Behind(card.upsampling, corrected=False)
        corrected = bool((correction.tau if tau is None else tau) != 0)
        return Behind(card.upsampling, corrected, tuple(map(card.classes.index, correction.excluded)))

    def feed(self, tau: float | None) -> dict[str, NDArray[Any]]:
        """Values of the optional inputs. Raises InputError for a strength that the graph can't take."""
        self.check_tau(tau)
        strength = {} if tau is None else {"tau": np.asarray(tau, np.float32)}
        return strength | ({"profile": np.asarray(self.number, np.int32)} if self.number else {})


def choose(runtime: Runtime, profile: str | None) -> Chosen:
    """The profile of that name, or the default for None. Raises InputError if the graph has none such."""
    return Chosen(runtime, 0 if profile is None else runtime.info.number_of(profile, str(runtime.path)))
