# Values for completion as they are at this moment, a line each, for bash and zsh alike: nothing,
# and above all no message, where they can't be had. `words` holds the words of the line. `command`
# is there for users who have aliases.

_pypwru_interfaces() {
    # Of the namespace that --filter-netns names; only ip netns names one that can be looked into.
    local word namespace='' previous=''
    for word in "${words[@]}"; do
        [[ $previous == --filter-netns ]] && namespace=$word
        [[ $word == --filter-netns=* ]] && namespace=${word#*=}
        previous=$word
    done
    case $namespace in
    '') command find /sys/class/net -type l -printf '%f\n' ;;
    *[:/]*) ;;
    *) ip -n "$namespace" -o link | command sed 's/^[0-9]*: \([^:@]*\).*/\1/' ;;
    esac 2>/dev/null
}

_pypwru_namespaces() {
    { command ls /run/netns; lsns -t net -n -r -o NS | command sed 's/^/inode:/'; } 2>/dev/null
}

_pypwru_modules() {
    command ls /sys/kernel/btf 2>/dev/null | command grep -vx vmlinux
}

# Functions of any kind. kallsyms has them for everybody, and without addresses for most.
_pypwru_symbols() {
    command awk '$2 ~ /^[tT]$/ && $3 !~ /^__(pfx|cfi)_/ { print $3 }' /proc/kallsyms 2>/dev/null
}

# nft would load nf_tables where it isn't.
_pypwru_nft() {
    command grep -q ' nft_do_chain' /proc/kallsyms 2>/dev/null && nft list "$1" 2>/dev/null
}

_pypwru_tables() {
    _pypwru_nft tables | command sed -n 's/^table //p'
}

_pypwru_chains() {
    _pypwru_nft chains | command sed -n 's/^[[:space:]]*chain \([^ ]*\).*/\1/p' | sort -u
}

# Functions that take a packet, into $_pypwru_listed: what pypwru itself would trace, with the modules
# and types of this line. A name in kallsyms doesn't say what it takes. That is up to a second of
# Python, so a shell asks once, and again when these options differ; without them all shells of a user
# ask once a day for each kernel. What failed isn't kept.
_pypwru_list() {
    local word command='' previous='' kept='' asked
    asked=()
    for word in "${words[@]}"; do
        [[ -n $command ]] || command=${word/#\~\//$HOME/}
        case $previous in
        --kmods | --kernel-btf) asked+=("$previous=$word") ;;
        esac
        case $word in
        --kmods=* | --kernel-btf=* | --all-kmods) asked+=("$word") ;;
        esac
        previous=$word
    done
    word="$command ${asked[*]}"
    [[ $word == "${_pypwru_listed_for-}" ]] && return
    if [[ ${#asked[@]} == 0 ]]; then
        kept=${XDG_CACHE_HOME:-$HOME/.cache}/pypwru-functions-$(uname -srv | cksum | tr ' ' -)
        _pypwru_listed=$(command find "$kept" -mtime -1 -size +0 -exec cat {} + 2>/dev/null)
    fi
    if [[ ${#asked[@]} != 0 || -z $_pypwru_listed ]]; then
        _pypwru_listed=$(timeout 5 "$command" "${asked[@]}" --function-list - 2>/dev/null </dev/null)
        if [[ -n $kept && -n $_pypwru_listed ]]; then
            # Whole or not at all: another shell may read it.
            {
                printf '%s\n' "$_pypwru_listed" >"$kept.$$" && command mv -f "$kept.$$" "$kept"
            } 2>/dev/null
        fi
    fi
    _pypwru_listed_for=${_pypwru_listed:+$word}
}

# These, as lines show them.
_pypwru_functions() {
    printf '%s\n' "$_pypwru_listed"
}

# The same as --filter-func compares them: nft_do_chain, not nft_do_chain[nf_tables].
_pypwru_names() {
    _pypwru_functions | command sed 's/^tp://; s/\[.*//'
}
