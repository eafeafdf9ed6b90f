"""Run files: options of a run and the settings of what it chooses."""

import click
import pytest

from neurofed.cli.runfile import load_run_file, merge_settings
from neurofed.errors import ConfigError, UnknownNameError


def _load(tmp_path, text):
    file = tmp_path / "run.toml"
    file.write_text(text)
    context = click.Context(click.Command("submit"))
    return load_run_file(context, click.Option(["--x"]), file), context.default_map


def test_each_choice_has_a_table_and_flags_win(tmp_path):
    text = """
        strategy = "fedadam"
        selection = "uniform"
        [settings]
        carry_state = false
        [strategy-settings]
        lr = 0.5
        tau = 1e-3
        [selection-settings]
        fraction = 0.25
    """
    settings, options = _load(tmp_path, text)
    assert options == {"strategy": "fedadam", "selection": "uniform"}
    assert settings == {
        "workload.carry_state": "false",
        "strategy.lr": "0.5",
        "strategy.tau": "0.001",
        "selection.fraction": "0.25",
    }
    assert merge_settings(settings, ("strategy.lr=2", "codec.k=1"))[1:] == (
        "strategy.lr=2",
        "strategy.tau=0.001",
        "selection.fraction=0.25",
        "codec.k=1",
    )


@pytest.mark.parametrize(
    "text", ["strategy-settings = 3", "[privacy-settings]\na = [1]", "[settings.strategy]\nlr = 1"]
)
def test_a_table_that_is_none_is_named(tmp_path, text):
    with pytest.raises(ConfigError, match=r"expected a table \[(strategy-|privacy-|)settings\] of KEY = VALUE"):
        _load(tmp_path, text)


def test_an_unknown_table_is_told_with_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'strategy-settings'"):
        _load(tmp_path, "[stratgy-settings]\nlr = 1")
