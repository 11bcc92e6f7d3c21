# How long the tests of a mutant may take, by how long the same tests take without one. It is sourced by
# `checks/mutants/run` and by `mutations/run`. A stage is a group of tests that run together.

declare -A taken limits

baseline_max=900 # seconds. A busy machine may be many times slower than an idle one, and the tree itself does not hang
limit_min=120    # seconds. The machine may become busy while a mutant is tried, and short times are measured badly
limit_times=5    # a mutant makes a world longer, but seldom by much

# The limit of a stage, in seconds.
limit_of() { echo "${limits[$1]:-$baseline_max}"; }

# Runs the command of a stage under the limit of the stage, and remembers how long that took.
within_limit() {
    local stage=$1 began=$SECONDS status=0
    timeout "$(limit_of "$stage")" "${@:2}" || status=$?
    taken[$stage]=$((SECONDS - began))
    return "$status"
}

# Sets the limit of each stage that has run by how long it took, and says so.
set_limits() {
    local stage
    for stage in "$@"; do
        limits[$stage]=$((taken[$stage] * limit_times))
        ((limits[$stage] >= limit_min)) || limits[$stage]=$limit_min
        echo "without a mutant, $stage took ${taken[$stage]} s; a mutant has ${limits[$stage]} s"
    done
}
