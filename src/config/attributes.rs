//! The `attributes` section of the configuration file.

use std::collections::BTreeMap;

use serde_saphyr::Spanned;

use super::error::{Error, Expected};
use super::file::{Reader, is_token};
use super::file_shape::AttributesShape;
use super::sampling::header_name;
use super::value;
use crate::proxy::settings::{Argument, Attributes};
use crate::trace::glob::Glob;

/// The most attributes of one source.
const MAX: usize = 64;

type Named = Option<BTreeMap<String, Spanned<String>>>;

/// Checks the section.
pub(super) fn read(reader: &Reader<'_>, shape: &AttributesShape) -> Result<Attributes, Error> {
    let mut attributes = Attributes {
        from_header: list(reader, "attributes.from_header", &shape.from_header, header_name)?,
        from_baggage: list(reader, "attributes.from_baggage", &shape.from_baggage, baggage)?,
        from_argument: list(reader, "attributes.from_argument", &shape.from_argument, argument)?,
        ..Attributes::default()
    };
    let capture = &mut attributes.capture_arguments;
    reader.set("attributes.capture_arguments", &shape.capture_arguments, value::boolean, capture)?;
    Ok(attributes)
}

fn list<T>(
    reader: &Reader<'_>,
    key: &str,
    shape: &Named,
    parse: fn(&str) -> Result<T, Expected>,
) -> Result<Vec<(T, String)>, Error> {
    let mut list = Vec::new();
    for (source, name) in shape.iter().flatten() {
        let source = parse(source).map_err(|expected| reader.wrong(key, name, source, &expected))?;
        if list.len() == MAX {
            return Err(Error::new(reader.at(name), format!("{key}: expected at most {MAX} attributes")));
        }
        list.push((source, reader.parse(key, name, attribute)?));
    }
    Ok(list)
}

fn attribute(name: &str) -> Result<String, Expected> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    match !name.is_empty() && name.len() <= 128 && name.bytes().all(plain) {
        true => Ok(name.to_owned()),
        false => Err("the name of an attribute: 1 to 128 letters, digits and ._-".into()),
    }
}

fn baggage(name: &str) -> Result<String, Expected> {
    match is_token(name) {
        true => Ok(name.to_owned()),
        false => Err("a baggage name of letters, digits and -._~!#$%&'*+^`|".into()),
    }
}

fn argument(text: &str) -> Result<Argument, Expected> {
    match text.rsplit_once('.') {
        Some((tool, name)) if !tool.is_empty() && !name.is_empty() => {
            Ok(Argument { tool: Glob::new(tool), name: name.to_owned() })
        }
        _ => Err("TOOL.ARGUMENT, such as weather_forecast.location".into()),
    }
}
