"""Private aggregation: from whom what a worker learned is hidden, and how.

    dp, dp-adaptive      differential privacy: the model says little about any one worker          central, noise
    secure-aggregation   the aggregator sees the sum of the updates and none of them               secagg

`docs/explanation/privacy.md` says what is protected against whom, and what that costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from neurofed import spec
from neurofed.errors import ConfigError, UnknownNameError, UnknownSettingError, nearest
from neurofed.v1.control_pb2 import RunSpec
from server.aggregation.base import Rule
from server.privacy import noise, secagg
from server.privacy.central import MEANS, Adaptive, Fixed, calibrated, private
from workloads.settings import Range, override


@dataclass(frozen=True)
class Masked:
    """Settings of secure aggregation.

    Attributes:
        threshold: how many workers open a secret, and the least of whom a sum is made; 0 takes the least above two
            thirds.
    """

    threshold: Annotated[int, Range(0)] = 0


Protection = Fixed | Masked | None
"""How a run is kept private: settings of differential privacy, of secure aggregation, or not at all."""

_DEFAULTS: Mapping[str, Fixed | Masked] = {"dp": Fixed(), "dp-adaptive": Adaptive(), "secure-aggregation": Masked()}
_FAIR_SELECTIONS = ("all", "uniform")
"""Those that look at nobody's data."""


def protection(name: str, settings: Mapping[str, object]) -> Protection:
    """A way to keep a run private, by its name.

    Args:
        name: one of `neurofed.spec.PRIVACY`.
        settings: text or JSON value by setting, in place of its defaults.

    Raises:
        UnknownNameError: if there is none of that name.
        UnknownSettingError: if it has no such setting.
        ConfigError: if a value does not have its setting's type or range.
    """
    if name == "none":
        for key in settings:
            raise UnknownSettingError(f"no setting {key!r}: without privacy there is none")
        return None
    if name not in _DEFAULTS:
        raise UnknownNameError(f"no privacy {name!r}: {nearest(name, ['none', *_DEFAULTS])}")
    return override(_DEFAULTS[name], settings)


def protection_of(run: RunSpec, rounds: int) -> Protection:
    """How a run is kept private, with what it does not go with refused and the noise that it takes worked out.

    Args:
        run: what is asked for.
        rounds: of the whole run.

    Raises:
        ConfigError: if it cannot be done.
    """
    chosen = protection(run.privacy or "none", spec.settings_of(run, "privacy"))
    if chosen is None:
        return None
    if run.buffer:
        raise ConfigError(
            f"privacy {run.privacy!r}: expected rounds that do not overlap, without --buffer: where they do, a worker "
            "can be in one sum twice"
        )
    if isinstance(chosen, Masked):
        _require_maskable(run, secagg.threshold_for(run.workers, chosen.threshold))
        return chosen
    if run.strategy not in MEANS:
        raise ConfigError(
            f"privacy {run.privacy!r}: expected one of the strategies {', '.join(MEANS)}, got {run.strategy!r}: the "
            "others look at each update by itself, which the noise of a mean does not hide"
        )
    if run.selection not in _FAIR_SELECTIONS:
        raise ConfigError(
            f"privacy {run.privacy!r}: expected one of the selections {', '.join(_FAIR_SELECTIONS)}, got "
            f"{run.selection!r}: who is asked would tell of what workers reported"
        )
    return calibrated(chosen, rounds, run.workers)


def _require_maskable(run: RunSpec, threshold: int) -> None:
    if run.selection != "all":
        raise ConfigError(f"privacy {run.privacy!r}: expected the selection all, got {run.selection!r}")
    if run.updates and run.updates < threshold:
        raise ConfigError(
            f"privacy {run.privacy!r}: expected --updates of at least the threshold, {threshold}, got {run.updates}"
        )
    if run.strategy not in MEANS:
        raise ConfigError(
            f"privacy {run.privacy!r}: expected one of the strategies {', '.join(MEANS)}, got {run.strategy!r}: the "
            "others, robust ones above all, look at each update by itself, and that is what masks prevent"
        )
    if run.codec != "dense":
        raise ConfigError(
            f"privacy {run.privacy!r}: expected the codec dense, got {run.codec!r}: masked numbers look random, so "
            "they can neither be left out nor be made shorter"
        )
    if run.codec_settings:
        raise ConfigError(f"privacy {run.privacy!r}: expected no settings of the codec, got {dict(run.codec_settings)}")


def protected(rule: Rule[Any], chosen: Protection, checkpoints: Path) -> Rule[Any]:
    """A rule with the privacy that lies in the rule.

    Args:
        rule: how updates become a model.
        chosen: as of `protection_of`.
        checkpoints: the folder of the run's checkpoints; the key of the noise lies beside it.

    Raises:
        ConfigError: if the rule is not a function of the mean.
        CredentialsError: if the run is resumed without its key.
        StorageError: if the disk does not take a new one.
    """
    if not isinstance(chosen, Fixed):
        return rule
    key = noise.run_key(checkpoints.parent, resumed=any(checkpoints.glob("round-*")))
    return private(rule, chosen, key)
