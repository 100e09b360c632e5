"""The allocator's settings: taken where glibc is, left alone where the user has chosen."""

from __future__ import annotations

import platform

import pytest

from elastic_ir.allocator import keep_buffers


def test_freed_buffers_are_kept_on_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    keep_buffers.cache_clear()
    assert keep_buffers() == (platform.libc_ver()[0] == "glibc")


def test_settings_of_the_user_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    keep_buffers.cache_clear()
    assert not keep_buffers()
    keep_buffers.cache_clear()
