"""A test that needs an extra or a program is skipped without it, unless CI says that it has to be there."""

import json

import pytest
from support import need, need_program


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


@pytest.mark.parametrize("required", [None, "", "interop", "no-such-program-2"])
def test_without_the_program_a_test_is_skipped(monkeypatch, required):
    monkeypatch.delenv("NEUROFED_REQUIRE", raising=False)
    if required is not None:
        monkeypatch.setenv("NEUROFED_REQUIRE", required)
    with pytest.raises(pytest.skip.Exception, match="needs the program `no-such-program`"):
        need_program("no-such-program")


def test_without_a_required_program_it_fails(monkeypatch):
    monkeypatch.setenv("NEUROFED_REQUIRE", "interop,no-such-program")
    with pytest.raises(pytest.fail.Exception, match="needs the program `no-such-program`"):
        need_program("no-such-program")


@pytest.mark.parametrize("required", ["", "a-program"])
def test_with_the_program_it_goes_on(monkeypatch, tmp_path, required):
    program = tmp_path / "a-program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NEUROFED_REQUIRE", required)
    need_program("a-program")
