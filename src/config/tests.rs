//! Whole configurations, loaded from flags, variables and files.

mod precedence;
mod refusals;
mod whole_file;

use std::time::Duration;

use super::*;
use crate::trace::ids::Ids;

/// Loads from flags in `--name=value` form, variables and the text of a file.
fn load(flags: &[&str], variables: &[(&str, &str)], file: Option<&str>) -> Result<Config, Error> {
    let mut set = Flags::default();
    for flag in flags {
        let (name, value) = flag.split_once('=').unwrap();
        match name {
            "--inbound" => set.inbound.push(value.to_owned()),
            "--outbound" => set.outbound.push(value.to_owned()),
            "--admin" => set.admin = Some(value.to_owned()),
            "--access-log" => set.access_log = Some(value.to_owned()),
            "--log-format" => set.log_format = Some(value.to_owned()),
            "--workers" => set.workers = Some(value.to_owned()),
            "--drain-timeout" => set.drain_timeout = Some(value.to_owned()),
            "--flush-timeout" => set.flush_timeout = Some(value.to_owned()),
            _ => unreachable!("{name}"),
        }
    }
    let config = Config::load(&set, &|name: &str| {
        variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    })?;
    let Some(text) = file else { return Ok(config) };
    let service = config.resource.service_name();
    let Settings { spans, attributes, sampling, propagation, tls, limits, .. } =
        file::parse(Path::new("m.yaml"), text, service)?;
    let sampling = sampling.under(config.sampling.fallback);
    Ok(Config { spans, attributes, sampling, propagation, tls, limits, ..config })
}

const INBOUND: &str = "--inbound=0.0.0.0:8000=127.0.0.1:8080";

fn from_file(text: &str) -> Result<Config, Error> {
    load(&[INBOUND], &[("OTEL_SERVICE_NAME", "weather")], Some(text))
}

/// A file that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("meshtrace-config-{:032x}.yaml", Ids::new().random()));
        std::fs::write(&path, text).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
