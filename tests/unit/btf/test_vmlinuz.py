"""BTF from boot images, compressed by the tools that compress kernels."""

from __future__ import annotations

import gzip
import lzma
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pypwru.btf.load import load_vmlinux
from pypwru.btf.vmlinuz import find_btf
from tests.data.btf_encoder import kernel
from tests.support.need import need
from tests.unit.btf.test_load import elf_file

TYPES = kernel().bytes()
VMLINUX = elf_file(64, "<", {".text": random.Random(1).randbytes(1 << 20), ".BTF": TYPES})


def zstd(data: bytes) -> bytes:
    """Compress as the kernel's Makefile does (cmd_zstd22): without the uncompressed size."""
    need(shutil.which("zstd"), "zstd")
    compressed = subprocess.run(
        ["zstd", "-22", "--ultra", "--no-check"], input=data, capture_output=True, check=True
    )
    return compressed.stdout


def xz(data: bytes) -> bytes:
    """Compress as scripts/xz_wrap.sh of the kernel does."""
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 6}]
    return lzma.compress(data, check=lzma.CHECK_CRC32, filters=filters)


@pytest.mark.parametrize("compress", [gzip.compress, xz, zstd, bytes])
def test_btf_in_boot_image(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """The compressed kernel is after the decompressor's code, and before 4 bytes of its size."""
    decoy = b"MZ" + b"\x1f\x8b\x08\xfd7zXZ\0\x28\xb5\x2f\xfd" * 3 + b"\x9f\xeb\x01\0\x18\0\0\0"
    image = decoy + bytes(4096) + compress(VMLINUX) + len(VMLINUX).to_bytes(4, "little")
    assert find_btf(image) == TYPES
    path = tmp_path / "vmlinuz"
    path.write_bytes(image)
    assert load_vmlinux(path).find("sk_buff")


@pytest.mark.parametrize("compress", [gzip.compress, xz, zstd])
def test_boot_image_without_btf(compress: Callable[[bytes], bytes]) -> None:
    assert find_btf(b"MZ" + compress(elf_file(64, "<", {".text": bytes(5000)}))) is None


@pytest.mark.parametrize("compress", [gzip.compress, xz, zstd])
def test_damaged_boot_image(compress: Callable[[bytes], bytes]) -> None:
    compressed = compress(VMLINUX)
    for end in range(0, len(compressed), len(compressed) // 20):
        assert find_btf(compressed[:end]) in (None, TYPES)
    noise = random.Random(2)
    for _ in range(20):
        broken = bytearray(compressed)
        broken[noise.randrange(len(broken))] ^= 0xFF
        find_btf(bytes(broken))
