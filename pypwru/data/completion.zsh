# Those of the lines $2 that fit; in a list ($1 is the comma) as its next item. The rest are options
# of compadd.
_pypwru_offer() {
    local separator=$1
    local -a values=(${(f)2})
    shift 2
    if (($#values > 5000)); then # more are no help
        values=(${(M)values:#${(b)${(Q)PREFIX}##*,}*})
        (($#values <= 5000)) || return 1
    fi
    if [[ -n $separator ]]; then
        _sequence compadd "$@" - -a values
    else
        compadd "$@" -a values
    fi
}
