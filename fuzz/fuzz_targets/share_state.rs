#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| grouplog::internal::fuzz_share_state(data));
