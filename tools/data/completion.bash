# Print those of the lines $2 that begin with the word $3, quoted for the command line. In a list ($1
# is the comma) only its last element is completed, and elements that it has already are left out.
_pypwru_offer() {
    local typed=$3 kept='' value quoted=''
    # Inside an open quote readline quotes the values; elsewhere this function does.
    case $typed in
    [\'\"]*) typed=${typed:1} ;;
    *) typed=${typed//\\/} quoted=1 ;;
    esac
    if [[ -n $1 && $typed == *,* ]]; then
        kept=${typed%,*},
        typed=${typed##*,}
    fi
    # compgen -W would evaluate its argument, and any user may name an interface $(reboot).
    while IFS= read -r value; do
        [[ -n $quoted && $value == *[!A-Za-z0-9_.,:=/@%+-]* ]] && printf -v value %q "$value"
        printf '%s\n' "$value"
    done < <(kept=$kept typed=$typed command awk '
        BEGIN { kept = ENVIRON["kept"]; typed = ENVIRON["typed"] }
        index($0, typed) == 1 && $0 != "" && !index("," kept, "," $0 ",") && !known[$0]++ {
            found[++n] = kept $0
        }
        # A longer list is no help, and bash would take seconds to read it.
        END { if (n <= 5000) for (i = 1; i <= n; i++) print found[i] }' <<<"$2")
}

_pypwru_files() {
    local word=${1#[\'\"]}
    compgen -f -- "${word//\\/}"
}

# Set $words to the words of the line up to the cursor, as pypwru would get them. COMP_WORDS has them
# split at = and : as well, or at the characters of COMP_WORDBREAKS.
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

# Set $variable to the name of shtab's variable for the option $1, with the suffix $2.
_pypwru_variable() {
    local name=_shtab_pypwru_$1
    variable=${name//[^[:word:]]/_}_$2
}

# Complete the line. shtab's function takes a value only as a word of its own, and has no values for
# options of type bool. readline expects the completion of $2, which may be a part of the word.
_pypwru() {
    local words=() word variable is_bool='' readline=$2 typed before
    _pypwru_words
    local COMP_WORDS=()
    for word in "${words[@]}"; do
        is_bool=''
        if [[ $word == --*=* ]]; then
            _pypwru_variable "${word%%=*}" nargs
            [[ ${!variable-} != 0 ]] || is_bool=1
            COMP_WORDS+=("${word%%=*}")
            word=${word#*=}
        fi
        [[ -n $is_bool ]] || COMP_WORDS+=("$word")
    done
    typed=$word
    if [[ -n $is_bool ]]; then
        _pypwru_variable "${COMP_WORDS[-1]}" 'choices[@]'
        mapfile -t COMPREPLY < <(_pypwru_offer '' "$(printf '%s\n' "${!variable}")" "$typed")
    else
        local COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        # shtab lists values in a subshell, which can't store the list of functions.
        [[ $_pypwru_of_functions != *" ${COMP_WORDS[-2]} "* ]] || _pypwru_list
        _shtab_pypwru
    fi
    [[ $readline != [=:] ]] || readline=''
    typed=${typed#[\'\"]} readline=${readline#[\'\"]}
    before=${typed%"$readline"}
    [[ $readline == "${typed#"$before"}" ]] || before=''
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    # If bash does not split at =, the option is part of the word.
    [[ $readline == "$typed" || $readline != *"=$typed" ]] ||
        COMPREPLY=("${COMPREPLY[@]/#/"${readline%"$typed"}"}")
}
