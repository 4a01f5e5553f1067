"""Compilation of the handlers for nf_tables and iptables-legacy.

Separate from the other handlers, since the kernel module may be loaded only after the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.load import module_digest
from pypwru.kernel.nft_types import MODULE, NftTypes, require_types
from pypwru.program.build import Bytecode, Compile, build, in_child
from pypwru.program.kept_layout import kept_layout
from pypwru.program.source import NFT, NFT_EVAL, sources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pypwru.btf.query import BTF
    from pypwru.cache import Cache
    from pypwru.discovery.functions import Function
    from pypwru.program.layout import Types


def build_unit(
    btf: BTF,
    defines: Mapping[str, str],
    cache: Cache,
    also: Sequence[Types],
    unit: str,
    function: Function,
    compile: Compile = in_child,
) -> Bytecode:
    """Compile the handlers of a file for the module that is loaded now.

    Args:
        btf: of vmlinux.
        defines: as of ``build``.
        cache: for the bytecode, and for the layout if ``also`` is empty.
        also: types of other modules, searched after those of the module.
        unit: name of the file in bpf/.
        function: the kernel function that they are attached to.
        compile: as of ``build``.

    Returns:
        As of ``build``.

    Raises:
        BuildError, ChildError: as of ``build``.
        BTFError: the module's BTF is malformed, or missing (``require_types``).
    """

    def make() -> tuple[str, dict[str, str]]:
        from pypwru.program.layout import layout

        if unit in (NFT, NFT_EVAL):
            nft = NftTypes(btf)
            require_types(MODULE, nft.are_known)
            return layout(sources().values(), btf, nft, *also), {}
        from pypwru.kernel.xt_types import XtTypes

        types = XtTypes(btf, function.module, function.name)
        require_types(function.module, types.are_known)
        return layout(sources().values(), btf, types, *also), {**types.macros}

    if also:
        text, macros = make()
    else:
        modules = map(module_digest, (MODULE, function.module))
        of = unit, function.module, function.name, *modules
        text, macros = kept_layout(btf, cache, make, *of)
    return build(text, {**defines, **macros}, cache, unit, compile)
