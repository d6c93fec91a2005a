#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| grouplog::internal::fuzz_dedup_load(data));
