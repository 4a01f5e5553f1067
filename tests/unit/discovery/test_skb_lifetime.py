"""Which functions are the last that get an sk_buff, by kernel."""

from __future__ import annotations

from pypwru.bpf_sources import BPF_DIR, MAIN
from pypwru.discovery.skb_lifetime import (
    BULK_FREE_HOOKS,
    FREE_FUNCTIONS,
    FREE_HOOK,
    LIFETIME_HOOKS,
    terminal_free_functions,
)


def test_callers_of_frees_are_not_terminal() -> None:
    assert terminal_free_functions(FREE_FUNCTIONS) == {"kfree_skbmem", "napi_skb_cache_put"}


def test_all_free_functions_if_one_is_missing() -> None:
    assert terminal_free_functions({"kfree_skbmem", "napi_skb_free_stolen_head"}) == FREE_FUNCTIONS


def test_each_hook_has_a_handler() -> None:
    text = (BPF_DIR / MAIN).read_text()
    hooks = {**LIFETIME_HOOKS, **BULK_FREE_HOOKS, "": FREE_HOOK}.values()
    assert all(f"int {hook.handler}(void *ctx)" in text for hook in hooks)
