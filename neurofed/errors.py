"""Every error a user can meet, as one tree, each with its exit code.

    NeuroFedError                      1
      ConfigError                     10   a value is wrong or unknown
        UnknownNameError              11   a workload, preset, codec or strategy that is not installed
        UnknownChipError              12   a chip that is neither shipped nor a file
        UnknownSettingError           13   a setting the workload does not have
      LinkError                       20   the network between worker, aggregator and user
        AddressInUseError             21
        UnreachableError              22
        VersionMismatchError          23
        NameInUseError                24   another worker holds the name
        LeftFederationError           25   the aggregator asked the worker to leave
      RunError                        30   a run could not be done
        NotEnoughWorkersError         31
        RunNotFoundError              32
        CheckpointError               33   no checkpoint is readable
        RunFailedError                34   the run ended with an error on the aggregator
        StoppedError                  35   somebody stopped it
        RunStateError                 36   what is asked does not go with the run's state
        StorageError                  37   the disk did not take what must be kept
      DataError                       40   bytes that do not keep their promise
        ManifestError                 41   tensors that do not match the model
        UpdateError                   42   an update that cannot be aggregated
        DamagedError                  43   bytes that changed on the way
      SecurityError                   50   identity and secrets
        CredentialsError              51   a key, certificate or token file that cannot be used
        UntrustedError                52   the two sides do not trust each other, or one speaks plain text
        AccessError                   53   the certificate does not allow the call
        TokenError                    54   the join token does not count
      MachineError                    60   what this machine is or has
        UnfitError                    61   `neurofed doctor` found something that must be put right
        EngineError                   62   no container engine, or it refused

`docs/reference/exit-codes.md` has a line for each; a test keeps the two equal.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NeuroFedError(Exception):
    """Base of all errors. The text says what was expected, what was got and what to do."""

    exit_code = 1


class ConfigError(NeuroFedError):
    """A value is wrong."""

    exit_code = 10


class UnknownNameError(ConfigError):
    """A name that nothing installed answers to."""

    exit_code = 11


class UnknownChipError(ConfigError):
    """A chip that is neither shipped nor a readable file."""

    exit_code = 12


class UnknownSettingError(ConfigError):
    """A setting that the workload does not have."""

    exit_code = 13


class LinkError(NeuroFedError):
    """The network between worker, aggregator and user."""

    exit_code = 20


class AddressInUseError(LinkError):
    """The address to listen on is taken."""

    exit_code = 21


class UnreachableError(LinkError):
    """Nobody answers at the address."""

    exit_code = 22


class VersionMismatchError(LinkError):
    """Worker and aggregator do not speak the same protocol."""

    exit_code = 23


class NameInUseError(LinkError):
    """Another live worker holds the name."""

    exit_code = 24


class LeftFederationError(LinkError):
    """The aggregator asked the worker to leave."""

    exit_code = 25


class RunError(NeuroFedError):
    """A run could not be done."""

    exit_code = 30


class NotEnoughWorkersError(RunError):
    """Fewer workers joined than the run needs."""

    exit_code = 31


class RunNotFoundError(RunError):
    """No run of that name."""

    exit_code = 32


class CheckpointError(RunError):
    """No checkpoint is readable."""

    exit_code = 33


class RunFailedError(RunError):
    """The run ended with an error on the aggregator."""

    exit_code = 34


class StoppedError(RunError):
    """Somebody stopped the run."""

    exit_code = 35


class RunStateError(RunError):
    """The run's state does not allow what is asked, or another aggregator has the run in hand."""

    exit_code = 36


class StorageError(RunError):
    """The disk did not take what must be kept: full, read-only or broken. What was there before is whole."""

    exit_code = 37


class DataError(NeuroFedError):
    """Bytes that do not keep their promise."""

    exit_code = 40


class ManifestError(DataError):
    """Tensors that do not match the declared names, shapes or types."""

    exit_code = 41


class UpdateError(DataError):
    """An update that cannot be aggregated: not finite, or out of range."""

    exit_code = 42


class DamagedError(DataError):
    """Bytes that changed on the way; they are sent again."""

    exit_code = 43


class SecurityError(NeuroFedError):
    """Identity and secrets."""

    exit_code = 50


class CredentialsError(SecurityError):
    """A key, certificate or token file that cannot be used: missing, malformed, expired, or readable by others."""

    exit_code = 51


class UntrustedError(SecurityError):
    """The two sides do not trust each other's certificates, or one speaks TLS and the other plain text."""

    exit_code = 52


class AccessError(SecurityError):
    """The certificate does not allow the call: by its role, by its name, or because it is revoked."""

    exit_code = 53


class TokenError(SecurityError):
    """The join token does not count: unknown, expired, used with another key, or for another name."""

    exit_code = 54


class MachineError(NeuroFedError):
    """What this machine is or has."""

    exit_code = 60


class UnfitError(MachineError):
    """`neurofed doctor` found something that must be put right."""

    exit_code = 61


class EngineError(MachineError):
    """No container engine answers, or it refused what was asked."""

    exit_code = 62


def nearest(got: str, known: Iterable[str]) -> str:
    """One clause for an error text: the closest known name, and all of them.

    Args:
        got: the name that nothing answers to.
        known: the names that would have been right.

    Returns:
        For example `did you mean 'core20_28nm'? (known: core20_28nm, single_core)`.
    """
    names = sorted(known)
    close = difflib.get_close_matches(got, names, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}(known: {', '.join(names) or 'none'})"
