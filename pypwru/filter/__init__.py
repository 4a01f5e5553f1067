"""pcap-filter text to classic BPF to eBPF, spliced into a handler.

``compiler.compile_filter`` makes a ``Filter`` of an expression; ``inject.inject`` puts its two
views in the place of the marker calls of a compiled program. ``plan.py`` lists the passes between.
"""
