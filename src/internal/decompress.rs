use super::input::Input;
use crate::record::{Compression, DecodeError, compress, decompress};

/// The bytes before the output, which no failure may change.
const BEFORE: &[u8] = b"before";

/// Takes a codec, a limit and any bytes, both as a payload and as input to compress. Output never exceeds the
/// limit. It is the same every time and under every limit that it fits. A failure leaves none of it.
/// Compressed bytes decompress to themselves.
pub fn fuzz_decompress(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8();
    let codec = Compression::ALL[usize::from(kind) % Compression::ALL.len()];
    let limit = usize::from(input.u16()) * if kind & 0x80 == 0 { 1 } else { 16 };
    if let Ok(found) = run(codec, input.rest, limit) {
        assert!(found.len() <= limit);
        assert_eq!(run(codec, input.rest, limit), Ok(found.clone()));
        fits_exactly(codec, input.rest, &found);
    }
    let level = i32::from(kind / 8 % 12) - 2;
    let mut small = Vec::new();
    compress(codec, Some(level), input.rest, &mut small).expect("every codec is built in");
    assert_eq!(run(codec, &small, input.rest.len()).as_deref(), Ok(input.rest), "{codec}");
    fits_exactly(codec, &small, input.rest);
}

fn run(codec: Compression, payload: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let mut out = BEFORE.to_vec();
    let result = decompress(codec, payload, limit, &mut out);
    assert!(out.starts_with(BEFORE));
    if result.is_err() {
        assert_eq!(out, BEFORE, "{codec}");
    }
    result.map(|()| out.split_off(BEFORE.len()))
}

fn fits_exactly(codec: Compression, payload: &[u8], output: &[u8]) {
    assert_eq!(run(codec, payload, output.len()).as_deref(), Ok(output), "{codec}");
    if let Some(less) = output.len().checked_sub(1) {
        let result = run(codec, payload, less);
        assert!(matches!(result, Err(DecodeError::LimitExceeded { .. })), "{codec}: {result:?}");
    }
}
