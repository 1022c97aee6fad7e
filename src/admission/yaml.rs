//! YAML as `kubectl` reads it, in and out. The YAML library is known to this file and to the configuration's only.

use serde_json::Value;
use serde_saphyr::{MessageFormatter, UserMessageFormatter};

/// Why a text is not YAML.
pub(super) struct Error {
    pub(super) line: Option<usize>,
    pub(super) column: Option<usize>,
    pub(super) message: String,
}

/// Reads one document; an empty one is null. `kubectl` reads YAML 1.1, where `0644` is octal and `yes` is true.
pub(super) fn read(text: &str) -> Result<Value, Error> {
    let options = serde_saphyr::options! { with_snippet: false, legacy_octal_numbers: true };
    let value: Result<Option<Value>, _> = serde_saphyr::from_str_with_options(text, options);
    value.map(Option::unwrap_or_default).map_err(|error| {
        let place = error.location();
        Error {
            line: place.and_then(|place| usize::try_from(place.line()).ok()),
            column: place.and_then(|place| usize::try_from(place.column()).ok()),
            message: UserMessageFormatter
                .format_message(error.without_snippet())
                .replace(char::is_control, " "),
        }
    })
}

/// Writes one document, and proves that it reads back as the same.
pub(super) fn write(value: &Value) -> Result<String, String> {
    // Folding long lines would be valid, but nobody writes arguments that way.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: 1_000_000 };
    let mut text = serde_saphyr::to_string_with_options(value, options).map_err(|error| error.to_string())?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    match read(&text) {
        Ok(back) if back == *value => Ok(text),
        _ => Err("this cannot be written as YAML without a change".to_owned()),
    }
}
