#!/usr/bin/env bash
# Runs the models of concurrency: the unit tests in files `models.rs`, built with loom's locks and atomics.
#
#   tests/models.sh                           all of them
#   tests/models.sh a_reader                  those whose names begin so
#   LOOM_MAX_PREEMPTIONS=4 tests/models.sh    more orders
#   GROUPLOG_PLANTED_FAULT=publish_relaxed tests/models.sh    with a fault, which they must find
#
# `cfg(loom)` is passed to this crate alone, by a wrapper of the compiler, so that dependencies are not built
# again.
set -euo pipefail
cd "$(dirname "$0")/.."
work="${CARGO_TARGET_DIR:-target}/loom"
mkdir -p "$work"
printf '#!/bin/sh\nexec "$@" --cfg loom --cfg planted_faults\n' >"$work/rustc"
chmod +x "$work/rustc"
export RUSTC_WORKSPACE_WRAPPER="$(cd "$work" && pwd)/rustc"
# Not optimised: that takes much less time to build, and the models take little.
options=()
for package in grouplog regex-automata tracing-subscriber; do
    options+=(--config "profile.dev.package.$package.opt-level=0")
done
cargo test "${options[@]}" --lib -- "models::${1:-}"
