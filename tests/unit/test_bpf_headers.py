"""Every file of bpf/ compiles alone, without a warning, for each set of options."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pypwru.bpf_sources import BPF_DIR, FIELDS, sources
from pypwru.btf.parse import parse as parse_btf
from pypwru.btf.query import BTF
from pypwru.cli.flags import parse
from pypwru.config import Backend, Config
from pypwru.kernel.netns_filter import NetnsFilter
from pypwru.needs import Needs
from pypwru.program.macros import defines
from pypwru.wire.layout import record_layout
from tests.data.btf_encoder import kernel
from tests.support.c_comments import without_comments
from tests.support.criteria import criteria_of
from tests.support.need import need
from tests.support.option_sets import OPTIONS

# Of the kernel's own warnings all but these, as in scripts/Makefile.extrawarn.
WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Wundef",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
)
FILES = sorted(sources())
_SWITCH = re.compile(r"\b[A-Z][A-Z0-9_]{2,}\b")

# Options, the backend, and whether the kernel has the members that code tests by #ifdef.
CASES = [
    ("plain", Backend.TRACEPOINT, True),
    ("capture", Backend.KPROBE_MULTI, True),
    ("drops", Backend.KPROBE, True),
    ("fragments", Backend.FENTRY_MULTI, True),
    ("everything", Backend.FENTRY, True),
    ("everything", Backend.KPROBE, False),
]


def sample_layout(has_tested_members: bool) -> str:
    """Return a layout of bpf/fields.h, as ``build_layout`` makes it, with numbers of no kernel."""
    tested = set(re.findall(r"#\s*(?:el)?if.*\bFIELD_(\w+)", "".join(sources().values())))
    lines = ["#define BLOCK_START 8", "#define BLOCK_SIZE 32"]
    for kind, struct, member in re.findall(
        r"^(\w+)\((\w+)(?:, (\w+), [\w *]+)?\)$", sources()[FIELDS], re.MULTILINE
    ):
        name = f"{struct}_{member}"
        if kind == "REQUIRED" or (
            kind == "OPTIONAL" and (has_tested_members or name not in tested)
        ):
            lines += [f"#define {prefix}_{name} 8" for prefix in ("FIELD", "SIZE")]
            lines.append(f"#define BIT_{name} 1")
        elif kind == "BTF_ID":
            lines.append(f"#define TYPE_ID_{struct} 7")
        elif kind == "STRUCT_SIZE":
            lines.append(f"#define SIZE_OF_{struct} 64")
    return "\n".join(lines) + "\n"


def macros(options: str, backend: Backend) -> list[str]:
    """Return the switches and constants of a run, as clang's options."""
    config = parse(OPTIONS[options].split())
    assert isinstance(config, Config)
    criteria = criteria_of(config, NetnsFilter(1, "eth0"), BTF(parse_btf(kernel("<").bytes())))
    needs = Needs.of(config, page_fragments=criteria.needs_fragments)
    found = defines(needs, {backend, Backend.KPROBE}, criteria, record_layout(needs))
    found["XT_SKB_FIRST"] = "1"  # of xtables.bpf.c alone, by the kernel (nft/xt_types.py)
    return [f"-D{name}={text}" for name, text in found.items()]


def test_switches_are_listed() -> None:
    """An #if of a name that isn't listed would be 0 for ever."""
    switches = re.compile(r"^#ifndef (\w+) /\*", re.MULTILINE)
    listed = set(switches.findall(sources()["switches.h"]))
    others = (text for name, text in sources().items() if name != "switches.h")
    code = "".join(map(without_comments, others))
    tested = set(_SWITCH.findall(" ".join(re.findall(r"#\s*(?:el)?if (.*)", code))))
    assert tested - listed == {"XT_SKB_FIRST", "TARGET_X86_64", "TARGET_AARCH64"}
    assert listed <= set(_SWITCH.findall(code))


@pytest.mark.parametrize(
    ("expression", "compiles"),
    [
        ("KREAD(skb, sk_buff, len)", True),
        ("KREAD(dev, sk_buff, len)", False),
        ("KREAD(KREAD(skb, sk_buff, dev), sk_buff, len)", False),
        ("KREAD(address_of(skb), sk_buff, len)", False),
        ("KREAD(skb, sk_buff, cb)", False),  # an ADDRESS
        ("MEMBER(skb, sk_buff, cb) == MEMBER(dev, net_device, name)", True),
        ("MEMBER(dev, sk_buff, cb) == 0", False),
    ],
)
def test_member_belongs_to_its_struct(tmp_path: Path, expression: str, compiles: bool) -> None:
    need(shutil.which("clang"), "clang (package clang)")
    (tmp_path / "layout.h").write_text(sample_layout(True))
    command = ["clang", "-target", "bpf", "-fsyntax-only", f"-I{BPF_DIR}"]
    command += ["-include", str(tmp_path / "layout.h"), *macros("plain", Backend.KPROBE)]
    text = (
        '#include "helpers.h"\n'
        f"u64 f(struct sk_buff *skb, struct net_device *dev) {{ return {expression}; }}\n"
    )
    done = subprocess.run(
        [*command, "-x", "c", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == compiles, done.stderr


@pytest.mark.parametrize(("options", "backend", "has_members"), CASES)
def test_every_file_compiles_alone(
    tmp_path: Path, options: str, backend: Backend, has_members: bool
) -> None:
    need(shutil.which("clang"), "clang (package clang)")
    (tmp_path / "layout.h").write_text(sample_layout(has_members))
    common = ["-target", "bpf", "-fsyntax-only", "-Werror", *WARNINGS, f"-I{BPF_DIR}"]
    common += ["-include", str(tmp_path / "layout.h"), *macros(options, backend)]
    complaints = {}
    for name in FILES:
        # Included, since what a header defines needs no use in itself.
        text = f'#include "{name}"\n'
        done = subprocess.run(
            ["clang", *common, "-x", "c", "-"], input=text, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            complaints[name] = done.stderr
    assert not complaints, "\n".join(complaints.values())
