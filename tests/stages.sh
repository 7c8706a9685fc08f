# shellcheck shell=bash
# Named stages with their times, for scripts that run several commands in a row (tests/run, .ci/run).
# Source it after `set -e`: the first command that fails ends its stage and the script.
#
#   stage NAME                a heading; everything up to the next stage belongs to this one
#   stage_skip NAME REASON    says on screen, and again in the summary, that a stage did not run
#
# When the script ends, for whatever reason, a summary of all stages goes to standard error.

stage_lines=()
stage_skips=0
stage_name=
stage_began=0

stage() {
    stage_close ok
    stage_name=$1
    stage_began=$SECONDS
    printf '\n==> %s  (at %d s)\n' "$1" "$SECONDS" >&2
}

stage_skip() {
    stage_close ok
    stage_skips=$((stage_skips + 1))
    stage_lines+=("$(printf '%-8s %6s  %s: %s' skipped - "$1" "$2")")
    printf '\n==> skipped: %s: %s\n' "$1" "$2" >&2
}

# Files the open stage, if there is one, under the given outcome.
stage_close() {
    [[ -n $stage_name ]] || return 0
    stage_lines+=("$(printf '%-8s %4d s  %s' "$1" $((SECONDS - stage_began)) "$stage_name")")
    stage_name=
}

stage_summary() {
    local status=$? verdict=passed
    if ((status == 0)); then
        stage_close ok
    else
        stage_close FAILED
        verdict="failed, exit status $status"
    fi
    {
        printf '\n== %s: %s in %d s\n' "${0##*/}" "$verdict" "$SECONDS"
        ((${#stage_lines[@]} == 0)) || printf '   %s\n' "${stage_lines[@]}"
    } >&2
}
trap stage_summary EXIT
# Without these, a script that a signal ends would say that it passed.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
