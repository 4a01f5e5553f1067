# Add those of the lines $2 that match; in a list ($1 is the comma) as its next element. Further
# arguments are options of compadd.
_pypwru_offer() {
    local separator=$1
    local -a values=(${(f)2})
    shift 2
    if (($#values > 5000)); then # a longer list is no help
        values=(${(M)values:#${(b)${(Q)PREFIX}##*,}*})
        (($#values <= 5000)) || return 1
    fi
    if [[ -n $separator ]]; then
        _sequence compadd "$@" - -a values
    else
        compadd "$@" -a values
    fi
}
