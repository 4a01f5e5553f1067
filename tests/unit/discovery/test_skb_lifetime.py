"""Which functions are the last that see an sk_buff, on kernels that differ."""

from __future__ import annotations

from pypwru.bpf_sources import BPF_DIR, MAIN
from pypwru.discovery.skb_lifetime import (
    BULK_FREE_HOOKS,
    FREE_FUNCTIONS,
    FREE_HOOK,
    LIFETIME_HOOKS,
    terminal_free_functions,
)


def test_what_calls_another_of_them_is_not_the_last() -> None:
    assert terminal_free_functions(FREE_FUNCTIONS) == {"kfree_skbmem", "napi_skb_cache_put"}


def test_but_is_where_the_kernel_has_no_other() -> None:
    assert terminal_free_functions({"kfree_skbmem", "napi_skb_free_stolen_head"}) == FREE_FUNCTIONS


def test_each_hook_is_a_handler() -> None:
    text = (BPF_DIR / MAIN).read_text()
    hooks = {**LIFETIME_HOOKS, **BULK_FREE_HOOKS, "": FREE_HOOK}.values()
    assert all(f"int {hook.handler}(void *ctx)" in text for hook in hooks)
