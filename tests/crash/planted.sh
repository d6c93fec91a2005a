#!/usr/bin/env bash
# Plants faults in the engine, one at a time, and demands that the crash tests find each of them.
#
#   tests/crash/planted.sh            all faults
#   tests/crash/planted.sh no_salt    one of them
#
# A fault is a `cfg!(planted_fault = "name")` in the sources. It is passed to this crate alone, by a
# wrapper of the compiler whose path names the fault, so that dependencies are not built again.
set -euo pipefail
cd "$(dirname "$0")/../.."
work="${CARGO_TARGET_DIR:-target}/planted"

# Each with the tests that find it first; all the others of the crash tests follow where they do not.
# `api:` in front of a name means the tests of tests/api, and those alone; `model:` the models of
# concurrency whose names begin so (tests/models.sh).
faults='
ack_before_sync            first_open
append_to_deleted          model:a_deletion
believe_cached_checkpoint  first_open
believe_missing_segment    model:a_reader_beside_retention
believe_segment            seal_and_roll
checkpoint_above_e         during_checkpoint
checkpoint_not_synced      commits
checkpoint_wakes_early     model:a_checkpoint_reaches
closed_once_is_closed      api:first_use
cut_once                   cut_short
damage_is_torn_tail        damage
end_before_frame           model:frames_are_complete
end_before_records         model:a_reader_at_the_tip
failure_wakes_early        model:a_failure_reaches
folder_not_synced          seal_and_roll
follow_past_checkpoint     api:follow
follow_strangers           api:hostile
forget_failed_sync         api:health
half_a_frame_is_none       api:follow
header_not_durable         recycle
keep_unlisted_segment      seal_and_roll
no_salt                    look_alike
offsets_above_e            during_checkpoint
offsets_not_synced         commits
one_checkpoint_file        commits
prefer_segments            model:a_reader_beside_a_roll
publish_relaxed            model:readers_see_whole_records
recycle_early              recycle_during_checkpoint
release_wakes_nobody       model:a_release_reaches
remove_before_write        model:a_reader_beside_a_roll
reuse_deleted_folder       api:health
sealed_before_prefix       model:a_sealed_buffer
search_once                model:a_search_by_time
segments_not_synced        seal_and_roll
sync_covers_later          model:who_waits
sync_last_file_only        recycle
sync_wakes_nobody          model:who_waits
synced_before_recovery     synced_after
unlink_before_sync         delete_and_recreate
'

# Every fault in the sources is in the list, and the other way round.
planted=$(grep -rhoE 'planted_fault = "[a-z_]+"' src | cut -d'"' -f2 | sort -u)
listed=$(awk 'NF { print $1 }' <<<"$faults" | sort -u)
diff <(echo "$planted") <(echo "$listed") || { echo "the list of faults is not that of the sources"; exit 1; }

found=0 missed=0
while read -r fault tests; do
    [[ -z $fault || ( $# -gt 0 && " $* " != *" $fault "* ) ]] && continue
    if [[ $tests == model:* ]]; then
        mkdir -p "$work/$fault"
        log="$work/$fault/log"
        # Only a model that fails has found it, not a build that does.
        if ! PLANTED_FAULT=$fault RUST_BACKTRACE=0 tests/models.sh "${tests#model:}" >"$log" 2>&1 &&
            grep -q '^test .*models::.* FAILED$' "$log"; then
            echo "$fault: found"
            grep -m1 -A1 'panicked at' "$log" | sed 's/^/    /'
            found=$((found + 1))
        else
            echo "$fault: NOT FOUND"
            missed=$((missed + 1))
        fi
        continue
    fi
    wrapper="$work/$fault/rustc"
    mkdir -p "$work/$fault"
    printf '#!/bin/sh\nexec "$@" --cfg '\''planted_fault="%s"'\''\n' "$fault" >"$wrapper"
    chmod +x "$wrapper"
    export RUSTC_WORKSPACE_WRAPPER="$(cd "$work/$fault" && pwd)/rustc"
    case $tests in
        api:*) binary=api all=${tests#api:} ;;
        *) binary=crash all= ;;
    esac
    cargo test -q --test $binary --no-run 2>/dev/null || { echo "$fault: does not build"; exit 1; }
    log="$work/$fault/log"
    if RUST_BACKTRACE=0 cargo test -q --test $binary -- "${tests#api:}" >"$log" 2>&1 &&
        RUST_BACKTRACE=0 cargo test -q --test $binary -- $all >"$log" 2>&1; then
        echo "$fault: NOT FOUND"
        missed=$((missed + 1))
    else
        found=$((found + 1))
        echo "$fault: found"
        grep -m1 -A8 'panicked at' "$log" | grep -E "panicked|^life|^  way|:" | head -4 | sed 's/^/    /'
    fi
done <<<"$faults"
echo "$found found, $missed not found"
[[ $missed -eq 0 && $found -gt 0 ]]
