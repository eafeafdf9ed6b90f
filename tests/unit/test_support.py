"""A test that needs an extra is skipped without it, unless CI says that the extra has to be there."""

import json

import pytest
from support import need


@pytest.mark.parametrize("required", [None, "", "dev", "interoperability,dev"])
def test_without_the_extra_a_test_is_skipped(monkeypatch, required):
    monkeypatch.delenv("NEUROFED_REQUIRE", raising=False)
    if required is not None:
        monkeypatch.setenv("NEUROFED_REQUIRE", required)
    with pytest.raises(pytest.skip.Exception, match="needs the extra `interop`"):
        need("no_such_module", "interop")


@pytest.mark.parametrize("required", ["interop", "dev,interop"])
def test_without_a_required_extra_it_fails(monkeypatch, required):
    monkeypatch.setenv("NEUROFED_REQUIRE", required)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        need("no_such_module", "interop")


@pytest.mark.parametrize("required", ["", "interop"])
def test_with_the_extra_it_gets_the_module(monkeypatch, required):
    monkeypatch.setenv("NEUROFED_REQUIRE", required)
    assert need("json", "interop") is json
