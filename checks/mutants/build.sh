# Builds a copy of the crate in which each mutant is behind a switch. It is sourced by `checks/mutants/run` and by
# `mutations/run`, which set `work`, the folder of everything that is made here, and run in the root of the repository.

tree=$work/tree
# Each of the two has a directory of its own, so that both can run at once.
export CARGO_TARGET_DIR=$work/built CARGO_INCREMENTAL=0
export CARGO_PROFILE_TEST_DEBUG=false CARGO_PROFILE_TEST_OPT_LEVEL=1
export RUST_BACKTRACE=0 LONGSHORE_SHRINK=0

build_weave() {
    cargo build --quiet --release --manifest-path checks/mutants/Cargo.toml
    weave=$CARGO_TARGET_DIR/release/weave
}

# Makes the tree from the files as they are now, committed or not. It has the library and `tests/it`, because the
# examples and benches would be compiled for nothing.
make_tree() {
    rm -rf "$tree"
    mkdir -p "$tree"
    # The dependencies of examples and benches are left out too.
    awk '/^\[/ { skip = /^\[\[(example|bench|test)\]\]|^\[workspace/ } !skip && !/^(criterion|image|rayon) =/' \
        Cargo.toml >"$tree/Cargo.toml"
    echo '[workspace]' >>"$tree/Cargo.toml"
    cp Cargo.lock README.md "$tree"
    cp -r src "$tree"
    mkdir -p "$tree/tests"
    cp -r tests/it "$tree/tests"
}

# Weaves mutants into the tree, and sets `tests` to the unit tests of the result. The arguments are what `weave` expects
# before the file of the numbers to be left out. That file and `unswitched` then name the mutants that do not compile and
# those that cannot be switched.
build_woven() {
    : >"$work/left_out"
    while true; do
        rm -rf "$tree/src"
        cp -r src "$tree"
        "$weave" "$@" "$work/left_out" "$tree" >"$work/unswitched"
        (cd "$tree" && cargo check --lib --profile test --all-features --message-format json 2>"$work/said" || true) \
            >"$work/messages"
        "$weave" --blame "$tree" <"$work/messages" >"$work/blamed" 2>"$work/unblamed"
        [[ -s $work/blamed ]] || break
        cat "$work/blamed" >>"$work/left_out"
    done
    if [[ -s $work/unblamed ]]; then
        cat "$work/unblamed"
        echo "the woven tree does not build"
        exit 1
    fi
    tests=$(executable --lib)
}

# The executable of a test of the tree.
executable() {
    (cd "$tree" && cargo test --no-run --all-features --message-format json "$@" 2>"$work/said") |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1
}

is_woven() { ! grep -qx "$1" "$work/left_out" "$work/unswitched"; }
