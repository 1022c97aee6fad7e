//! The `sampling` section of the configuration file.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderName;
use serde_saphyr::Spanned;

use super::error::{Error, Expected};
use super::file::{Reader, Sampling};
use super::file_shape::{KeepShape, OneOrMany, SamplingRuleShape, SamplingShape};
use super::value;
use crate::trace::glob::Glob;
use crate::trace::rules::{Condition, Field, RuleConfig};
use crate::trace::sampler_config::Keep;

/// The most rules, and the most patterns of one key.
const MAX_RULES: usize = 256;
const MAX_PATTERNS: usize = 256;

/// Header fields that hold credentials. They are never looked at.
pub(super) const CREDENTIALS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "set-cookie"];

type Patterns = Option<Spanned<OneOrMany>>;
type Named = Option<BTreeMap<String, Spanned<OneOrMany>>>;

/// Checks the section.
pub(super) fn read(reader: &Reader<'_>, shape: &SamplingShape) -> Result<Sampling, Error> {
    let rate = &shape.max_traces_per_second;
    let max_per_second = reader.optional("sampling.max_traces_per_second", rate, value::rate)?;
    let shapes = shape.rules.as_deref().unwrap_or_default();
    if let Some(one_more) = shapes.get(MAX_RULES) {
        let problem = format!("sampling.rules: expected at most {MAX_RULES} rules");
        return Err(Error::new(reader.at(one_more), problem));
    }
    let rules = shapes.iter().map(|shape| rule(reader, shape)).collect::<Result<_, _>>()?;
    let keep = shape.keep.as_ref().map(|shape| keep(reader, shape)).transpose()?;
    Ok(Sampling { rules, max_per_second, keep })
}

fn keep(reader: &Reader<'_>, shape: &KeepShape) -> Result<Keep, Error> {
    let mut keep = Keep::default();
    reader.set("sampling.keep errors", &shape.errors, value::boolean, &mut keep.errors)?;
    let bound = |text: &str| value::duration(text, Duration::from_millis(1)..=Duration::from_secs(3_600));
    keep.slower_than = reader.optional("sampling.keep slower_than", &shape.slower_than, bound)?;
    Ok(keep)
}

fn rule(reader: &Reader<'_>, spanned: &Spanned<SamplingRuleShape>) -> Result<RuleConfig, Error> {
    let shape = &spanned.value;
    let mut conditions = Vec::new();
    let mut add = |field: Field, patterns: &Patterns, parse: fn(&str) -> Result<Glob, Expected>| {
        let Some(patterns) = patterns else { return Ok(()) };
        let patterns = globs(reader, &format!("sampling.rules {field}"), patterns, parse)?;
        conditions.push(Condition { field, patterns });
        Ok::<_, Error>(())
    };
    add(Field::Peer, &shape.peer, value::host_glob)?;
    add(Field::Tool, &shape.tool, value::glob)?;
    add(Field::Prompt, &shape.prompt, value::glob)?;
    add(Field::Resource, &shape.resource, value::glob)?;
    add(Field::Method, &shape.method, value::glob)?;
    add(Field::Host, &shape.host, value::host_glob)?;
    add(Field::Path, &shape.path, value::path_glob)?;
    named(reader, &shape.header, header, &mut conditions)?;
    named(reader, &shape.baggage, baggage, &mut conditions)?;
    let mut rule = RuleConfig { conditions, ..RuleConfig::default() };
    if let Some(agent) = &shape.agent {
        rule.agent = globs(reader, "sampling.rules agent", agent, value::glob)?;
    }
    reader.set("sampling.rules name", &shape.name, name, &mut rule.name)?;
    reader.set("sampling.rules root", &shape.root, value::boolean, &mut rule.root)?;
    rule.share = reader.optional("sampling.rules sample", &shape.sample, value::share)?;
    rule.per_second =
        reader.optional("sampling.rules traces_per_second", &shape.traces_per_second, value::rate)?;
    if rule.share.is_none() && rule.per_second.is_none() {
        let problem = "sampling.rules: expected sample or traces_per_second in each rule";
        return Err(Error::new(reader.at(spanned), problem));
    }
    Ok(rule)
}

fn named(
    reader: &Reader<'_>,
    named: &Named,
    field: fn(&str) -> Result<Field, Expected>,
    conditions: &mut Vec<Condition>,
) -> Result<(), Error> {
    for (name, patterns) in named.iter().flatten() {
        let field =
            field(name).map_err(|expected| reader.wrong("sampling.rules", patterns, name, &expected))?;
        let key = format!("sampling.rules {field}");
        let patterns = globs(reader, &key, patterns, value::glob)?;
        conditions.push(Condition { field, patterns });
    }
    Ok(())
}

fn header(name: &str) -> Result<Field, Expected> {
    header_name(name).map(|name| Field::Header(name.as_str().into()))
}

/// The name of a header field that may be looked at.
pub(super) fn header_name(name: &str) -> Result<HeaderName, Expected> {
    let name = HeaderName::try_from(name).map_err(|_| Expected::from("the name of a header field"))?;
    if CREDENTIALS.contains(&name.as_str()) {
        return Err("a header field that holds no credentials".into());
    }
    Ok(name)
}

fn baggage(name: &str) -> Result<Field, Expected> {
    match super::file::is_token(name) {
        true => Ok(Field::Baggage(name.into())),
        false => Err("a baggage name of letters, digits and -._~!#$%&'*+^`|".into()),
    }
}

fn globs(
    reader: &Reader<'_>,
    key: &str,
    patterns: &Spanned<OneOrMany>,
    parse: fn(&str) -> Result<Glob, Expected>,
) -> Result<Vec<Glob>, Error> {
    match &patterns.value {
        OneOrMany::One(text) => match parse(text) {
            Ok(glob) => Ok(vec![glob]),
            Err(expected) => Err(reader.wrong(key, patterns, text, &expected)),
        },
        OneOrMany::Many(many) if many.is_empty() || many.len() > MAX_PATTERNS => {
            let problem = format!("{key}: expected 1 to {MAX_PATTERNS} patterns");
            Err(Error::new(reader.at(patterns), problem))
        }
        OneOrMany::Many(many) => many.iter().map(|one| reader.parse(key, one, parse)).collect(),
    }
}

fn name(text: &str) -> Result<String, Expected> {
    let plain = |b: u8| b.is_ascii_graphic() || b == b' ';
    match !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("a name of 1 to 64 plain ASCII characters".into()),
    }
}
