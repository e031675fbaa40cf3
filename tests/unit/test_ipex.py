"""Which IPEX is kept from being imported, and how."""

import importlib
import logging
import sys
from pathlib import Path

import pytest
from comfyui_ipex.xpu_runtime import ipex


@pytest.mark.parametrize(
    ("version", "torch", "fits"),
    [
        ("2.8.10+xpu", "2.8.0+xpu", True),
        ("2.8.0", "2.8.0+cu128", True),
        ("2.5.10+xpu", "2.5.1+cxx11.abi", True),
        ("2.7.10+xpu", "2.8.0+xpu", False),
        ("2.8.10+xpu", "2.14.1+cu130", False),
        ("2.1.40+xpu", "2.10.0", False),
        ("2.10.10.dev", "2.1.0", False),
        (None, "2.14.1", False),
    ],
)
def test_ipex_fits_the_torch_of_its_own_release(
    version: str | None, torch: str, fits: bool
) -> None:
    reason = ipex.mismatch(version, torch)
    assert (reason is None) == fits
    assert fits or torch in str(reason)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with an IPEX that has no metadata yet."""
    package = tmp_path / ipex.PACKAGE
    package.mkdir()
    (package / "__init__.py").write_text("NAME = 'IPEX'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, ipex.PACKAGE, raising=False)
    return tmp_path


def blocked(torch: str) -> bool:
    """Whether IPEX cannot be imported beside this torch; leaves no trace."""
    try:
        ipex.block_mismatched(torch)
        importlib.import_module(ipex.PACKAGE)
    except ImportError:
        return True
    finally:
        sys.modules.pop(ipex.PACKAGE, None)
    return False


def test_an_ipex_that_does_not_fit_cannot_be_imported(
    installed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = installed / "intel_extension_for_pytorch-2.8.10+xpu.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: intel-extension-for-pytorch\nVersion: 2.8.10+xpu\n")
    with caplog.at_level(logging.WARNING):
        assert not blocked("2.8.0+xpu")
        assert caplog.records == []
        assert blocked("2.14.1+xpu")
    [record] = caplog.records
    assert "2.8.10+xpu does not fit torch 2.14.1+xpu" in record.getMessage()
    assert "pip uninstall" in record.getMessage()


def test_an_ipex_of_unknown_version_cannot_be_imported(
    installed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert blocked("2.14.1+xpu")
    assert "does not tell its version" in caplog.records[0].getMessage()


def test_without_ipex_nothing_is_done_or_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ipex.block_mismatched("2.14.1")
    assert ipex.PACKAGE not in sys.modules
    assert caplog.records == []


def test_an_ipex_that_is_imported_already_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, ipex.PACKAGE, sys)
    ipex.block_mismatched("1.0")
    assert sys.modules[ipex.PACKAGE] is sys
