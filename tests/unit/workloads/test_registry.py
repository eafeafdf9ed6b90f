import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from neurofed.errors import ConfigError, UnknownNameError
from workloads import registry
from workloads.base import Workload


def install(monkeypatch, **points):
    entries = [EntryPoint(name, value, registry.GROUP) for name, value in points.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: [e for e in entries if e.group == group])


def test_the_built_in_workload_comes_through_the_public_door():
    point = registry.available()["video-classification"]
    assert point.group == "neurofed.workloads"
    workload = registry.load("video-classification")
    assert isinstance(workload, Workload)
    assert workload.name == point.name


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'video-classification'"):
        registry.load("video-clasification")


def test_workloads_are_listed_in_order_without_importing_them(monkeypatch):
    install(monkeypatch, zebra="no.such.module:W", ant="no.such.module:W")
    assert list(registry.available()) == ["ant", "zebra"]


@pytest.mark.parametrize("value", ["no.such.module:W", "workloads.registry:NO_SUCH_NAME"])
def test_a_workload_that_cannot_be_imported_is_a_config_error(monkeypatch, value):
    install(monkeypatch, broken=value)
    with pytest.raises(ConfigError, match=r"'broken'.*cannot be imported"):
        registry.load("broken")


def test_something_else_than_a_workload_is_a_config_error(monkeypatch):
    install(monkeypatch, text="workloads.registry:GROUP")
    with pytest.raises(ConfigError, match=r"expected workloads.registry:GROUP to be a .*Workload, got str"):
        registry.load("text")


def test_reading_settings_imports_nothing_heavy():
    script = (
        "import sys; from workloads.registry import load;"
        "load('video-classification').settings('small', {'lr': '0.1'});"
        "print([m for m in ('torch', 'sklearn', 'grpc', 'flwr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
