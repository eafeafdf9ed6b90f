"""Personal parts: what of a model stays on its worker, such as statistics of normalisation (FedBN) or heads.

Li et al. 2021 (FedBN) keep batch normalisation local, so that features of unlike data need not have one distribution. A
workload marks such parts by giving its task a method `personal`; see `HasPersonalParts`. They are trained and kept by
each worker and never sent; the aggregator's model keeps the initial ones, with which it is evaluated. Weight
standardisation has no statistics and needs none of this.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from neurofed.errors import ConfigError, nearest

if TYPE_CHECKING:
    import torch


@runtime_checkable
class HasPersonalParts(Protocol):
    """What a task has whose model is not shared as a whole."""

    def personal(self, model: torch.nn.Module) -> Collection[str]:
        """Names of parameters and buffers, as in the model's `state_dict`, that stay on the worker."""


def personal_names(task: Any, model: torch.nn.Module) -> frozenset[str]:
    """The names of a model's personal parts; none for a task that marks none.

    Raises:
        ConfigError: if the task names what is not part of the model, or leaves nothing to be shared.
    """
    if not isinstance(task, HasPersonalParts):
        return frozenset()
    names, all_names = frozenset(task.personal(model)), set(model.state_dict())
    if unknown := sorted(names - all_names):
        raise ConfigError(f"personal part {unknown[0]!r}: {nearest(unknown[0], all_names)}")
    if names == all_names:
        raise ConfigError("personal parts: expected something that is shared, got all of the model")
    return names
