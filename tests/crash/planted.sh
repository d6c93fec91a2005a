#!/usr/bin/env bash
# Plants faults in the engine, one at a time, and demands that the tests of `cargo test` find each of them; the
# models of concurrency (tests/models.sh) those that only some order of threads brings out.
#
#   tests/crash/planted.sh                     all faults, each by the tests that are to find it
#   tests/crash/planted.sh no_salt no_reserve  some of them
#   tests/crash/planted.sh --search no_salt    where those tests do not find it, all others follow
#
# A fault is a guard in the sources that asks `planted("name")`. All of them are built at once, into this
# crate alone, by a wrapper of the compiler: dependencies are not built again. A run then names one.
set -euo pipefail
cd "$(dirname "$0")/../.."
search=no
if [[ ${1:-} == --search ]]; then
    search=yes
    shift
fi
work="${CARGO_TARGET_DIR:-target}/planted"
mkdir -p "$work"
work=$(cd "$work" && pwd)

# Each with the tests that are to find it, `binary:filter`; `model:` are the models of concurrency.
faults='
aborted_batch_shown         lib:broker::tests
ack_before_sync             crash:first_open
adopted_bytes_not_kept      api:stored_races
adopted_bytes_not_written_again crash:stored
all_files_are_ours          api:descriptors
any_offset_file_taken       api:an_offset_file_of_another
any_panic_counts            lib:panic_watch
any_slots_header            lib:two_files_with_one_sequence
append_behind_damage        api:records_behind_a_damaged
append_on_full_disk         api:a_full_disk_refuses
append_to_deleted           model:a_deletion
append_to_deleted_segment   api:a_batch_behind_a_deleted
batch_checksum_not_checked  api:a_damaged_batch
believe_cached_checkpoint   crash:first_open
believe_cached_journal      api:a_topic_is_deleted_for_good
believe_first_look          api:a_reader_beside_a_deletion
believe_index               lib:segment::
believe_missing_segment     model:a_reader_beside_retention
believe_payload             lib:journal::tests::replaying
believe_segment             crash:seal_and_roll
believe_stored_section      crash:stored
believe_sums                lib:the_sums_of_a_foreign
block_sums_not_checked      lib:log::tests::reading
budget_forgets_before_unlink api:a_failed_deletion_refuses
budget_forgets_staged       api:a_send_all_asks_for_room
budget_ignores_batches      api:disk_budget::a_refused_append
budget_ignores_copies       lib:a_copy_gets_what_is_kept
budget_ignores_journal      lib:appends_get_what_is_not
budget_ignores_side_files   lib:side_files_count_before
budget_ignores_space_ahead  lib:little_is_reserved_ahead
budget_keeps_refused        lib:appends_get_what_is_not
budget_never_refuses        api:disk_budget::a_refused_append
budget_released_before_write api:a_batch_that_cannot_be_written
budget_without_limit        lib:a_call_beyond_the_budget
bytes_checked_by_maintenance_alone api:a_partition_never_holds
chain_below_log_start       crash:stored_retention_gap
checkpoint_above_e          crash:during_checkpoint
checkpoint_after_close      lib:a_closed_folder_is_left
checkpoint_for_nothing      lib:a_checkpoint_is_due_again
checkpoint_not_synced       crash:commits
checkpoint_wakes_early      model:a_checkpoint_reaches
cleaned_segment_not_synced  crash:compaction
close_beside_preparation    api:a_late_preparation
closed_files_not_synced     lib:files_that_were_closed_unsynced
closed_once_is_closed       api:first_use
commit_after_failed_transaction api:transactions_of_one_consumer
commit_before_earlier_transaction api:transactions_of_one_consumer
commit_to_deleted           api:recreated
commit_without_epoch        api:offsets
counts_not_checked          lib:log::tests::lies
cut_not_synced              lib:a_cut_is_durable
cut_once                    crash:cut_short
damage_is_torn_tail         lib:journal::tests::replaying
dead_frames_live            lib:journal::tests::replaying
deleted_folder_not_mended   crash:stored_and_all_deleted
deletion_needs_space        api:a_topic_is_deleted_for_good
deletion_waits_for_ever     api:a_close_beside_a_deletion
deletions_not_noticed       api:damage
drop_all_deleted            crash:retention
drop_before_removal         api:a_failed_deletion_refuses
drop_from_all_topics        api:the_oldest_go_over
drop_in_vain                api:nothing_is_dropped
drop_only_when_refused      api:the_oldest_records_go
duplicate_is_stored         api:duplicates_are_left_out
end_before_frame            model:frames_are_complete
end_before_records          model:a_reader_at_the_tip
epoch_ends_early            api:epochs_of_records
epochs_file_not_kept        crash:ids
epochs_not_checked          lib:a_batch_of_another_epoch
epochs_stay                 api:epochs_of_records
expected_commit_not_checked api:an_expected_commit
expected_end_not_checked    api:an_expected_end
explain_cleaned_blocks      lib:log::tests::cleaned
failed_sync_is_known        api:health
failure_wakes_early         model:a_failure_reaches
files_left_not_synced       crash:whole_seal_and_roll
finish_undurable_deletions  api:a_failed_deletion_is_not
folder_not_restored         api:a_topic_is_whole_when
folder_not_synced           crash:seal_and_roll
follow_past_checkpoint      api:follow
follow_strangers            api:hostile
forget_failed_batch         api:a_checkpoint_that_cannot_write
forget_failed_sync          lib:journal::tests::crashing
forget_failed_whole_sync    lib:a_failed_sync_of_the_file_system
forget_files_left           crash:whole_seal_and_roll
forget_left_after_failure   lib:what_a_failed_checkpoint_left
forget_silent_groups        api:a_segment_goes_when
fork_not_noticed            api:fork
frame_size_forgets_sections api:a_full_transaction
future_segment_grows        api:one_future_timestamp
gaps_are_damage             lib:log::tests::cleaned
gate_keeps_one              model:a_gate
gate_waits_for_nobody       model:a_gate
go_on_without_stored_bytes  api:a_checkpoint_that_lost_stored
grant_last_spare            lib:a_full_journal_still
groups_unlocked_before_apply model:a_commit_beside
half_a_folder_stays         lib:a_refused_first_append
half_a_frame_is_none        api:follow
hash_truncated              api:compaction_property
header_not_durable          lib:journal::tests::crashing
hole_not_passed             api:a_delayed_record_that_compaction
horizon_lost                api:a_tombstone_stays
ids_not_journaled           crash:ids
index_not_refreshed         lib:deletion_ends_an_open
keep_refused_records        crash:recycle
keep_refused_sums           lib:a_refused_stored_append
keep_unlisted_segment       crash:seal_and_roll
lapped_reader_goes_on       lib:a_file_that_is_used_again
large_file_beyond_limit     lib:journal::tests::append
large_spare_stays_last      api:an_append_that_may_fit
last_file_stays             lib:only_a_small_journal
last_stable_offset_ignored  lib:broker::tests
later_files_are_no_witness  lib:journal::tests::replaying
leave_waiters_alone         lib:who_waits_for_space
left_files_not_relied_on    lib:a_synced_stored_append_needs
limit_from_the_start        api:a_folder_beyond_a_lowered
lock_left_to_children       api:fork
log_start_above_e           lib:a_checkpoint_holds_the_frozen
log_start_not_dirty         crash:delete_records
long_slots_stay             lib:a_slot_that_lost_its_header
longer_segment_taken        lib:log::tests::reading
lost_files_are_no_witness   lib:a_named_file_that_lost_its_header
lost_folder_synced          api:lost_folders
metadata_not_mended         crash:stored
name_not_synced_again       api:a_file_that_a_failed
names_not_synced            lib:journal::tests::crashing
new_epoch_forgets_sequence  api:sequences_store_each
newer_gets_a_lock_file      folders:newer
newer_gets_a_pid            folders:newer
no_reserve                  api:a_full_disk_refuses
no_rewind                   api:a_failed_or_aborted
no_salt                     lib:a_payload_of_look_alikes
no_witness                  lib:journal::tests::syncing
nobody_stands_in_line       lib:a_large_frame_gets_its_turn
nothing_behind_large_frame  lib:journal::tests::append
nothing_held_back           lib:a_full_journal_still
offset_chain_not_checked    crash:bits
offsets_above_e             lib:a_checkpoint_holds_the_frozen
offsets_before_records      model:a_commit_beside
offsets_not_synced          crash:commits
old_block_believed          api:an_old_block_in
one_checkpoint_file         crash:commits
one_offset_file             crash:commits
one_share_file              crash:shares
only_waiters_sync           lib:journal::tests::syncing
open_batch_never_ages       api:few_records_age
opening_needs_space         api:a_folder_opens_though
owner_not_fenced            api:a_newer_producer
owner_not_journaled         crash:transactions
owners_above_e              crash:transactions_during_checkpoint
owners_not_in_checkpoint    crash:transactions
panic_not_noticed           lib:panic_watch
pass_before_settling        api:the_first_append_to_a_closed
policy_of_expected_counts   api:the_policy_of_an_expected
position_carried_over       simulation:seeds
positions_without_epoch     api:offsets
prefer_segments             model:a_reader_beside_a_roll
prove_deleted_segments      crash:stored_retention
prove_synced_sections       api:damage_of_synced_records
publish_relaxed             model:readers_see_whole_records
read_before_sync            api:power_loss_takes_nothing
recycle_early               crash:recycle_during_checkpoint
recycle_file_of_checkpoint  lib:a_file_is_not_used_again
recycle_replayed_files      lib:journal::tests::replaying
redrive_forgets_letter      api:letters_that_just_fill
refusal_rewinds_nothing     api:a_refused_taking
refused_bytes_stay          lib:a_finished_segment_ends
release_wakes_nobody        model:a_release_reaches
rely_on_lost_bytes          lib:no_frame_relies_on_bytes
rely_on_marks               lib:journal::tests::replaying
removal_not_durable         crash:delete_all_records
removals_not_synced_again   lib:a_removal_that_a_kill
remove_before_write         model:a_reader_beside_a_roll
remove_segments_early       crash:delete_records
removed_before_sync         crash:retention
removed_segments_checked    crash:retention
removed_segments_not_captured lib:a_checkpoint_lists_segments
rename_before_sync          api:a_deletion_does_not_take
replace_deleted_segments    lib:a_pass_does_not_join
replaced_before_listed      crash:compaction
replaced_not_removed_again  crash:whole_compaction
replay_foreign_file         lib:journal::tests::replaying
replay_seals_elsewhere      crash:seal_and_roll
reserve_only_grows          api:weight
reserve_stays               api:weight
retention_has_one_turn      api:without_threads_retention_looks
retention_needs_space       api:retention_frees_a_full_disk
retry_failed_checkpoint     api:a_failed_segment_sync
retry_failed_sync           lib:journal::tests::crashing
returned_buckets_stay       api:a_bucket_of_a_deleted_topic
reuse_deleted_folder        api:health
reuse_epoch                 api:offsets
reuse_lost_sequences        lib:a_sequence_that_power_loss_took
reuse_sequences             lib:journal::tests::replaying
rewind_into_open_transaction api:records_of_an_open
sealed_before_prefix        model:a_sealed_buffer
search_once                 model:a_search_by_time
segments_not_synced         crash:seal_and_roll
sequence_not_checked        api:sequences_store_each
settle_after_close          api:a_late_send
share_any_delivery_counts   lib:group::share
share_group_of_any_name     api:names_of_groups
share_image_forgets_counts  lib:group::share
share_late_word_counts      lib:group::share
share_limit_ignored         lib:group::share
share_no_dead_letter        lib:group::share
share_no_key_order          lib:group::share
share_no_throttle           lib:group::share
share_no_window_limit       lib:group::share
share_not_journaled         api:share_groups
share_not_journaled         kill:jobs_survive
share_notices_any_number    api:very_many_delayed
share_pause_is_late         api:a_pause_holds
share_renews_late           lib:locks_that_began
share_reserves_any_size     api:a_small_journal_takes
share_start_does_not_count  lib:group::share
share_start_passes_held     lib:group::share
share_time_ignored          lib:group::share
shares_not_synced           crash:shares
shrink_tells_nobody         lib:an_idle_journal
skip_newer_sections         folders:newer
spare_does_not_vouch        lib:a_named_file_that_was_removed
spare_no_files              api:descriptors
stale_is_damage             api:a_reader_beside_a_writer_that
store_after_close           api:a_late_stored
stored_bytes_not_synced     crash:stored
stored_names_not_synced     crash:stored
sync_covers_later           model:who_waits
sync_last_file_only         lib:journal::tests::crashing
sync_wakes_nobody           model:who_waits
synced_before_recovery      crash:synced_after
syncs_overlap               api:nobody_takes_bytes
take_foreign_folder         api:the_folder_of_another
taken_name_not_fenced       api:a_producer_stays_fenced
time_inside_is_silence      api:membership
time_of_each_record         api:produce
tombstone_goes_at_once      api:a_tombstone_stays
topic_id_not_checked        simulation:seeds
transaction_of_evicted_member api:an_evicted_member
trim_open_files_only        api:weight
trim_the_last_file          lib:a_journal_at_rest
truncation_not_noticed      api:offsets
two_frames                  crash:transactions
unlink_before_sync          crash:delete_and_recreate
verify_looks_once           api:verify_beside_a_deletion
vouch_for_unsynced          crash:first_open
wait_for_never              api:later_or_never
waiting_commit_is_silent    api:a_member_is_not_evicted_while
waits_outlive_close         api:a_close_on_a_full_disk
whole_checksum_not_checked  lib:log::tests
writer_dies_silently        api:a_panic_in_the_writer
'

# Every fault in the sources is in the list, and the other way round.
planted=$(grep -rhoE 'planted\("[a-z_]+"\)' src | cut -d'"' -f2 | sort -u)
listed=$(awk 'NF { print $1 }' <<<"$faults" | sort -u)
diff <(echo "$planted") <(echo "$listed") || { echo "the list of faults is not that of the sources"; exit 1; }

chosen=$(awk -v wanted=" $* " 'NF && (wanted == "  " || index(wanted, " " $1 " "))' <<<"$faults")
[[ -n $chosen ]] || { echo "there is no such fault"; exit 1; }

printf '#!/bin/sh\nexec "$@" --cfg planted_faults\n' >"$work/rustc"
chmod +x "$work/rustc"
built=$(RUSTC_WORKSPACE_WRAPPER="$work/rustc" cargo test --lib --tests --no-run 2>&1) || { echo "$built"; exit 1; }
declare -A binaries
while read -r name path; do
    binaries[$name]=$path
done < <(sed -nE 's#^ *Executable (unittests src/(lib)\.rs|tests/([a-z_]+)(/main)?\.rs) \((.*)\)$#\2\3 \5#p' <<<"$built")

# What a fault makes fail is no case to keep.
export RUST_BACKTRACE=0 PROPTEST_DISABLE_FAILURE_PERSISTENCE=1
run() { # binary, filter
    if [[ $1 == model ]]; then
        timeout 600 tests/models.sh "$2"
    else
        timeout 300 "${binaries[$1]}" "$2"
    fi
}

run_all() {
    for name in "${!binaries[@]}"; do
        run "$name" "" || return
    done
}

# What finds a fault passes without it.
while IFS=: read -r name filter; do
    run "$name" "$filter" >"$work/log" 2>&1 || { cat "$work/log"; echo "$name:$filter fails without a fault"; exit 1; }
    grep -qE '^test .* \.\.\. ' "$work/log" || { echo "$name:$filter: there are no such tests"; exit 1; }
done < <(awk '{ print $2 }' <<<"$chosen" | sort -u)

found=0 missed=0
while read -r fault tests; do
    export GROUPLOG_PLANTED_FAULT=$fault
    log="$work/$fault.log" ended=0
    run "${tests%%:*}" "${tests#*:}" >"$log" 2>&1 || ended=$?
    if [[ $ended -eq 0 && $search == yes ]]; then
        echo "$fault: not found by $tests; all tests follow"
        run_all >"$log" 2>&1 || ended=$?
    fi
    by=$(grep -m1 -E '^test .* FAILED$' "$log" | cut -d' ' -f2 || true)
    # One that ends the process has found something, too; one that hangs or does not build has not.
    if [[ -z $by && ( $ended -lt 128 || $ended -eq 124 ) ]]; then
        echo "$fault: NOT FOUND by $tests, see $log"
        missed=$((missed + 1))
        continue
    fi
    echo "$fault: found by ${by:-$tests}"
    grep -m1 -A8 'panicked at' "$log" | grep -E "panicked|^life|^  way|:" | head -4 | cut -c-160 | sed 's/^/    /' || true
    found=$((found + 1))
done <<<"$chosen"
echo "$found found, $missed not found, in ${SECONDS}s"
[[ $missed -eq 0 ]]
