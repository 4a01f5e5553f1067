# Functions for bash and zsh that print the values of a completion, one per line. If there are none,
# or they can't be read, they print nothing, and no error message. `words` has the words of the line.
# `command` bypasses the aliases of the user.

_pypwru_interfaces() {
    # Of the namespace of --filter-netns, if that is a name of ip-netns(8); others can't be listed.
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

# All kernel functions. Every user can read kallsyms; for most of them it hides the addresses.
_pypwru_symbols() {
    command awk '$2 ~ /^[tT]$/ && $3 !~ /^__(pfx|cfi)_/ { print $3 }' /proc/kallsyms 2>/dev/null
}

# Only with nf_tables in the kernel, since nft would load the module.
_pypwru_nft() {
    command grep -q ' nft_do_chain' /proc/kallsyms 2>/dev/null && nft list "$1" 2>/dev/null
}

_pypwru_tables() {
    _pypwru_nft tables | command sed -n 's/^table //p'
}

_pypwru_chains() {
    _pypwru_nft chains | command sed -n 's/^[[:space:]]*chain \([^ ]*\).*/\1/p' | sort -u
}

# Store the functions that take a packet in $_pypwru_listed: those that pypwru would trace with the
# options for modules and types of this line (kallsyms has names, but no prototypes). pypwru needs up
# to a second for the list, so a shell runs it once, and again when they change. The list
# without such options is cached for a day, for all shells of a user, by kernel. Failures are not
# cached.
_pypwru_list() {
    local word command='' previous='' kept='' flags
    flags=()
    for word in "${words[@]}"; do
        [[ -n $command ]] || command=${word/#\~\//$HOME/}
        case $previous in
        --kmods | --kernel-btf) flags+=("$previous=$word") ;;
        esac
        case $word in
        --kmods=* | --kernel-btf=* | --all-kmods) flags+=("$word") ;;
        esac
        previous=$word
    done
    word="$command ${flags[*]}"
    [[ $word == "${_pypwru_listed_for-}" ]] && return
    if [[ ${#flags[@]} == 0 ]]; then
        kept=${XDG_CACHE_HOME:-$HOME/.cache}/pypwru-functions-$(uname -srv | cksum | tr ' ' -)
        _pypwru_listed=$(command find "$kept" -mtime -1 -size +0 -exec cat {} + 2>/dev/null)
    fi
    if [[ ${#flags[@]} != 0 || -z $_pypwru_listed ]]; then
        _pypwru_listed=$(timeout 5 "$command" "${flags[@]}" --function-list - 2>/dev/null </dev/null)
        if [[ -n $kept && -n $_pypwru_listed ]]; then
            # Renamed once it is complete: another shell may read it at any time.
            {
                printf '%s\n' "$_pypwru_listed" >"$kept.$$" && command mv -f "$kept.$$" "$kept"
            } 2>/dev/null
        fi
    fi
    _pypwru_listed_for=${_pypwru_listed:+$word}
}

# The stored functions, as events name them.
_pypwru_functions() {
    printf '%s\n' "$_pypwru_listed"
}

# The stored functions, as --filter-func matches them: nft_do_chain, not nft_do_chain[nf_tables].
_pypwru_names() {
    _pypwru_functions | command sed 's/^tp://; s/\[.*//'
}
