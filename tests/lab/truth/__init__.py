"""The kernel's own trace records (``nft monitor trace`` prints them) as the oracle of pypwru.

Nothing here shares code with pypwru.
"""
