# Completion of descriptions in bash, for `clap.rs` beside it.

_clap_example() {
    # Bash takes a description apart at its colons and equals signs; it is the last word of the line as it was typed.
    local typed=${COMP_LINE:0:COMP_POINT} role=client
    typed=${typed##* }
    [[ ${COMP_LINE:0:COMP_POINT} == *"--listen $typed" ]] && role=server
    # And it wants no more than what follows the last of them.
    local known=${typed%"${typed##*[:=]}"} candidate
    COMPREPLY=()
    while IFS= read -r candidate; do
        COMPREPLY+=("${candidate#"$known"}")
    done < <(clap complete "$role" "$typed")
    # Behind these, more follows.
    [[ ${COMPREPLY[0]-} == *[:=/] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _clap_example clap
