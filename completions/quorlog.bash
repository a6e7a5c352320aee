# bash completion for quorlog. The program itself knows its commands and options:
# quorlog [COMMAND] --completion-helper.

_quorlog()
{
    local word=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]}
    local commands command='' first='' i

    COMPREPLY=()
    commands=$("$program" --completion-helper 2>/dev/null) || return
    # What stands before the cursor, and is no option, begins with the command: one word or two.
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -*) break ;;
        esac
        if grep -qxF -- "$first${COMP_WORDS[i]}" <<<"$commands"; then
            command=$first${COMP_WORDS[i]}
            break
        fi
        first="${COMP_WORDS[i]} "
        [ $i -eq 1 ] || break
    done
    if [ -z "$command" ]; then
        # The first words, or the second words of the family.
        mapfile -t COMPREPLY < <(compgen -W "$(sed -n "s/^$first\([^ ]*\).*/\1/p" <<<"$commands" | sort -u)" -- "$word")
        return
    fi
    if [[ $word == -* ]]; then
        # shellcheck disable=SC2086 # A command of two words is two arguments.
        mapfile -t COMPREPLY < <(compgen -W "$("$program" $command --completion-helper 2>/dev/null)" -- "$word")
        # An option that takes a value: no space behind its '='.
        [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2>/dev/null
    fi
}

complete -o default -F _quorlog quorlog
