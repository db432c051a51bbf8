"""Checksums and unpacking are those of zlib, with and without the faster library."""

import importlib
import platform
import sys
import zlib

import pytest

from spikedistill.data.formats import isal_zlib


@pytest.fixture(params=["as installed", "without ISA-L"])
def module(request, monkeypatch):
    if request.param == "without ISA-L":
        for name in ("isal", "isal.isal_zlib", "isal.igzip_lib"):
            monkeypatch.setitem(sys.modules, name, None)
    yield importlib.reload(isal_zlib)
    monkeypatch.undo()
    importlib.reload(isal_zlib)


def test_results_are_those_of_zlib(module):
    content = bytes(range(256)) * 1000
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(content) + packer.flush()
    assert module.inflate(packed, len(content)) == content
    assert module.crc32(content) == zlib.crc32(content)
    assert module.crc32(content[1000:], module.crc32(content[:1000])) == zlib.crc32(content)


@pytest.mark.parametrize("packed", [b"abc", b"\0" * 10])
def test_damage_is_an_error_of_zlib(module, packed):
    with pytest.raises(zlib.error):
        module.inflate(packed, 100)


@pytest.mark.parametrize("expected", [0, 255_999, 256_001])
def test_no_more_is_unpacked_than_expected(module, expected):
    content = bytes(range(256)) * 1000
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(content) + packer.flush()
    with pytest.raises(zlib.error, match=r"more than|256000 of 256001"):
        module.inflate(packed, expected)


def test_the_faster_library_is_installed_where_it_exists():
    there = platform.machine() in ("x86_64", "AMD64", "aarch64", "arm64")
    assert (isal_zlib.crc32 is not zlib.crc32) == there
