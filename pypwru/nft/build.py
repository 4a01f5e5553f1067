"""Compilation of the handlers for nf_tables and iptables-legacy.

Separate from the other handlers, since the kernel module may be loaded only after the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.bpf_sources import FIELDS, NFT, NFT_EVAL, sources
from pypwru.btf.load import module_digest
from pypwru.nft.types import MODULE, NftTypes, require_types
from pypwru.program.build import Bytecode, Compiler, build, compile_in_child
from pypwru.program.cached_layout import cached_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pypwru.btf.query import BTF
    from pypwru.cache import Cache
    from pypwru.discovery.functions import Function
    from pypwru.program.layout import ModuleTypes


def build_unit(
    btf: BTF,
    defines: Mapping[str, str],
    cache: Cache,
    other_types: Sequence[ModuleTypes],
    unit: str,
    function: Function,
    compiler: Compiler = compile_in_child,
    keep: Callable[[str, str], object] | None = None,
) -> Bytecode:
    """Compile the handlers of a file for the module that is loaded now.

    Args:
        btf: of vmlinux.
        defines: as of ``build``.
        cache: for the bytecode, and for the layout if ``other_types`` is empty.
        other_types: types of other modules, searched after those of the module.
        unit: name of the file in bpf/.
        function: the kernel function that they are attached to.
        compiler: as of ``build``.
        keep: gets name and text of each file of --debug; None without.

    Returns:
        As of ``build``.

    Raises:
        BuildError, ChildError: as of ``build``.
        BTFError: the module's BTF is malformed, or missing (``require_types``).
    """

    def compute_layout() -> tuple[str, dict[str, str]]:
        from pypwru.program.layout import build_layout

        if unit in (NFT, NFT_EVAL):
            nft = NftTypes(btf)
            require_types(MODULE, nft.has_btf)
            return build_layout(sources()[FIELDS], btf, nft, *other_types), {}
        from pypwru.nft.xt_types import XtTypes

        types = XtTypes(btf, function.module, function.name)
        require_types(function.module, types.has_btf)
        return build_layout(sources()[FIELDS], btf, types, *other_types), {**types.macros}

    if other_types:
        text, macros = compute_layout()
    else:
        modules = map(module_digest, (MODULE, function.module))
        key_parts = unit, function.module, function.name, *modules
        text, macros = cached_layout(btf, cache, compute_layout, *key_parts)
    macros = {**defines, **macros}
    if keep is not None:
        from pypwru.program.debug_files import keep_unit

        keep_unit(keep, unit, text, macros)
    return build(text, macros, cache, unit, compiler)
