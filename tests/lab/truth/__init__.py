"""The kernel's own trace records (``nft monitor trace`` shows them) as the judge of pypwru.

Nothing here shares code with pypwru.
"""
