"""Which functions are the last that see an sk_buff, on kernels that differ."""

from __future__ import annotations

from pypwru.discovery.lifetime import FORGETTING, FREES, IN_BULK, TRACKING, final
from pypwru.program.source import FOLDER, MAIN


def test_what_calls_another_of_them_is_not_the_last() -> None:
    assert final(FREES) == {"kfree_skbmem", "napi_skb_cache_put"}


def test_but_is_where_the_kernel_has_no_other() -> None:
    assert final({"kfree_skbmem", "napi_skb_free_stolen_head"}) == FREES


def test_each_hook_is_a_handler() -> None:
    text = (FOLDER / MAIN).read_text()
    hooks = {**TRACKING, **IN_BULK, "": FORGETTING}.values()
    assert all(f"int {hook.handler}(void *ctx)" in text for hook in hooks)
