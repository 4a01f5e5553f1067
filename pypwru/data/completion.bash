# Those of the lines $2 that begin with the word $3, as bash needs them to be typed. In a list ($1 is
# the comma) that is its last item, what stands in front is kept, and what is there isn't offered.
_pypwru_offer() {
    local typed=$3 kept='' value quoted=''
    # In an open quote readline quotes, and elsewhere we do.
    case $typed in
    [\'\"]*) typed=${typed:1} ;;
    *) typed=${typed//\\/} quoted=1 ;;
    esac
    if [[ -n $1 && $typed == *,* ]]; then
        kept=${typed%,*},
        typed=${typed##*,}
    fi
    # compgen -W would evaluate what it is given, and anybody may name an interface $(reboot).
    while IFS= read -r value; do
        [[ -n $quoted && $value == *[!A-Za-z0-9_.,:=/@%+-]* ]] && printf -v value %q "$value"
        printf '%s\n' "$value"
    done < <(kept=$kept typed=$typed command awk '
        BEGIN { kept = ENVIRON["kept"]; typed = ENVIRON["typed"] }
        index($0, typed) == 1 && $0 != "" && !index("," kept, "," $0 ",") && !known[$0]++ {
            found[++n] = kept $0
        }
        # More are no help, and bash would read them for seconds.
        END { if (n <= 5000) for (i = 1; i <= n; i++) print found[i] }' <<<"$2")
}

_pypwru_files() {
    local word=${1#[\'\"]}
    compgen -f -- "${word//\\/}"
}

# $words: those of the line up to the cursor, as pypwru gets them; bash has taken them apart at
# every = and :, too, or whatever else COMP_WORDBREAKS says.
_pypwru_words() {
    local line=${COMP_LINE:0:COMP_POINT} word rest
    words=()
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        rest=${line#"${line%%[![:space:]]*}"}
        [[ $rest == "$word"* ]] || word=$rest # the cursor is inside it
        if [[ $rest == "$line" && ${#words[@]} -gt 0 ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        line=${rest#"$word"}
    done
}

# The name of shtab's variable about the option $1 that ends with $2.
_pypwru_variable() {
    local name=_shtab_pypwru_$1
    variable=${name//[^[:word:]]/_}_$2
}

# shtab's function takes a value only as a word of its own, and has none for switches; readline wants
# back no more than what it takes for the word: $2.
_pypwru() {
    local words=() word variable is_switch='' readline=$2 typed before
    _pypwru_words
    local COMP_WORDS=()
    for word in "${words[@]}"; do
        is_switch=''
        if [[ $word == --*=* ]]; then
            _pypwru_variable "${word%%=*}" nargs
            [[ ${!variable-} != 0 ]] || is_switch=1
            COMP_WORDS+=("${word%%=*}")
            word=${word#*=}
        fi
        [[ -n $is_switch ]] || COMP_WORDS+=("$word")
    done
    typed=$word
    if [[ -n $is_switch ]]; then
        _pypwru_variable "${COMP_WORDS[-1]}" 'choices[@]'
        mapfile -t COMPREPLY < <(_pypwru_offer '' "$(printf '%s\n' "${!variable}")" "$typed")
    else
        local COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        # shtab asks for values in a subshell, which would forget them.
        [[ $_pypwru_of_functions != *" ${COMP_WORDS[-2]} "* ]] || _pypwru_list
        _shtab_pypwru
    fi
    [[ $readline != [=:] ]] || readline=''
    typed=${typed#[\'\"]} readline=${readline#[\'\"]}
    before=${typed%"$readline"}
    [[ $readline == "${typed#"$before"}" ]] || before=''
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    # Where bash does not split at =, the option is part of the word.
    [[ $readline == "$typed" || $readline != *"=$typed" ]] ||
        COMPREPLY=("${COMPREPLY[@]/#/"${readline%"$typed"}"}")
}
