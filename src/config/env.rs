//! The `OTEL_*` variables about sampling, propagation and our own log.
//!
//! The OpenTelemetry specification decides what they mean (General SDK
//! configuration): an empty value is no value, names of choices are compared
//! without case, and a value that is not understood is warned about and
//! ignored. What we know but do not do is refused instead, because ignoring it
//! would lose traces silently.

use tracing::level_filters::LevelFilter;

use super::Environment;
use super::error::{Error, Origin, quote};
use crate::proxy::settings::Formats;
use crate::trace::sampler_config::{Root, SamplerConfig};

/// The value of a variable without surrounding white space, if there is any.
fn read(env: Environment<'_>, name: &str) -> Option<String> {
    let value = env(name)?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// Refuses what a user may expect to work and what we do not have. Exporters
/// are for the export room to refuse.
pub(crate) fn refuse_unsupported(env: Environment<'_>) -> Result<(), Error> {
    for name in ["OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE"] {
        if read(env, name).is_some() {
            return Err(Error::new(
                Origin::Variable(name),
                "is set: meshtrace does not read OpenTelemetry configuration files; \
                 use OTEL_* variables, or --config for a file of meshtrace's own",
            ));
        }
    }
    Ok(())
}

/// `OTEL_PROPAGATORS`.
///
/// # Errors
/// When it names `jaeger`, `ottrace` or `xray`.
pub(crate) fn propagators(env: Environment<'_>, warnings: &mut Vec<String>) -> Result<Formats, Error> {
    let variable = "OTEL_PROPAGATORS";
    let expected = "a list of tracecontext, baggage, b3 and b3multi, or none";
    let Some(value) = read(env, variable) else {
        return Ok(Formats::default());
    };
    let mut formats = Formats::NONE;
    let mut none = false;
    for name in names(&value) {
        match name.as_str() {
            "tracecontext" => formats.tracecontext = true,
            "baggage" => formats.baggage = true,
            "b3" => formats.b3 = true,
            "b3multi" => formats.b3multi = true,
            "none" => none = true,
            "jaeger" | "ottrace" | "xray" => {
                let expected = format!("{expected}; there is no {name} propagator");
                return Err(Error::value(Origin::Variable(variable), &value, &expected.into()));
            }
            other => warnings.push(ignored(variable, other, expected)),
        }
    }
    match (formats == Formats::NONE, none) {
        (true, true) => Ok(Formats::NONE),
        // Nothing that we know was named, so nothing was set.
        (true, false) => Ok(Formats::default()),
        (false, true) => {
            warnings.push(ignored(variable, "none", "none to stand alone"));
            Ok(formats)
        }
        (false, false) => Ok(formats),
    }
}

/// `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
pub(crate) fn sampler(env: Environment<'_>, warnings: &mut Vec<String>) -> SamplerConfig {
    let variable = "OTEL_TRACES_SAMPLER";
    let Some(value) = read(env, variable) else {
        return SamplerConfig::default();
    };
    let name = value.to_ascii_lowercase();
    let (parent_based, root) = match name.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, name.as_str()),
    };
    let root = match root {
        "always_on" => Root::AlwaysOn,
        "always_off" => Root::AlwaysOff,
        "traceidratio" => Root::Ratio(ratio(env, warnings)),
        _ => {
            let expected = "always_on, always_off, traceidratio, or one of these after parentbased_";
            warnings.push(ignored(variable, &value, expected));
            return SamplerConfig::default();
        }
    };
    SamplerConfig { root, parent_based }
}

/// The share of traces that `traceidratio` records.
fn ratio(env: Environment<'_>, warnings: &mut Vec<String>) -> f64 {
    let variable = "OTEL_TRACES_SAMPLER_ARG";
    let Some(value) = read(env, variable) else {
        return 1.0;
    };
    match value.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
        _ => {
            warnings.push(ignored(variable, &value, "a number from 0 to 1; 1 is used"));
            1.0
        }
    }
}

/// `OTEL_SDK_DISABLED`: no spans are made, and context still passes. The
/// export room reads it too, and reports a value that it does not know.
pub(crate) fn sdk_disabled(env: Environment<'_>) -> bool {
    read(env, "OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// `OTEL_LOG_LEVEL`: how much we say on stderr. The specification leaves the
/// names open, so those of the common SDKs are understood.
pub(crate) fn log_level(env: Environment<'_>, warnings: &mut Vec<String>) -> LevelFilter {
    let variable = "OTEL_LOG_LEVEL";
    let Some(value) = read(env, variable) else {
        return LevelFilter::INFO;
    };
    match value.to_ascii_lowercase().as_str() {
        "off" | "none" => LevelFilter::OFF,
        "fatal" | "error" => LevelFilter::ERROR,
        "warn" | "warning" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" | "verbose" | "all" => LevelFilter::TRACE,
        _ => {
            warnings.push(ignored(variable, &value, "off, error, warn, info, debug or trace"));
            LevelFilter::INFO
        }
    }
}

/// The members of a list, lower case, without the empty ones.
fn names(list: &str) -> impl Iterator<Item = String> {
    list.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty())
}

fn ignored(variable: &str, value: &str, expected: &str) -> String {
    format!("{variable} {} is ignored: expected {expected}", quote(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `read` with one or two variables set, and returns the number of warnings too.
    fn with<T>(set: &[(&str, &str)], read: impl Fn(Environment<'_>, &mut Vec<String>) -> T) -> (T, usize) {
        let env = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let mut warnings = Vec::new();
        let value = read(&env, &mut warnings);
        (value, warnings.len())
    }

    #[test]
    fn every_sampler_of_the_specification() {
        use Root::{AlwaysOff, AlwaysOn, Ratio};
        let cases = [
            ("", "", AlwaysOn, true, 0),
            ("always_on", "", AlwaysOn, false, 0),
            ("ALWAYS_OFF", "0.5", AlwaysOff, false, 0),
            ("traceidratio", "", Ratio(1.0), false, 0),
            ("traceidratio", "0.25", Ratio(0.25), false, 0),
            ("parentbased_always_on", "", AlwaysOn, true, 0),
            ("parentbased_always_off", "", AlwaysOff, true, 0),
            (" parentbased_traceidratio ", " 1e-3 ", Ratio(0.001), true, 0),
            ("parentbased_traceidratio", "1.1", Ratio(1.0), true, 1),
            ("parentbased_traceidratio", "-0.1", Ratio(1.0), true, 1),
            ("parentbased_traceidratio", "NaN", Ratio(1.0), true, 1),
            ("parentbased_traceidratio", "10%", Ratio(1.0), true, 1),
            ("jaeger_remote", "endpoint=x", AlwaysOn, true, 1),
            ("parentbased_", "", AlwaysOn, true, 1),
        ];
        for (name, arg, root, parent_based, warnings) in cases {
            let set = [("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", arg)];
            let expect = (SamplerConfig { root, parent_based }, warnings);
            assert_eq!(with(&set, sampler), expect, "{name} {arg}");
        }
    }

    #[test]
    fn every_propagator() {
        let none = Formats::NONE;
        let default = Formats::default();
        let cases = [
            ("", default, 0),
            (",", default, 0),
            ("none", none, 0),
            ("b3", Formats { b3: true, ..none }, 0),
            ("b3multi,B3MULTI", Formats { b3multi: true, ..none }, 0),
            ("tracecontext, baggage", default, 0),
            ("tracecontext", Formats { tracecontext: true, ..none }, 0),
            ("baggage,none", Formats { baggage: true, ..none }, 1),
            ("tracecontext,nonsense", Formats { tracecontext: true, ..none }, 1),
            ("nonsense", default, 1),
        ];
        for (value, formats, warnings) in cases {
            let (found, warned) = with(&[("OTEL_PROPAGATORS", value)], propagators);
            assert_eq!(found, Ok(formats), "{value}");
            assert_eq!(warned, warnings, "{value}");
        }
        for value in ["jaeger", "tracecontext,XRAY", "ottrace"] {
            let (found, _) = with(&[("OTEL_PROPAGATORS", value)], propagators);
            assert!(found.is_err_and(|e| e.to_string().contains("there is no")), "{value}");
        }
    }

    #[test]
    fn levels_and_switches_fall_back_with_a_warning() {
        let level = |value| with(&[("OTEL_LOG_LEVEL", value)], log_level);
        assert_eq!(level(""), (LevelFilter::INFO, 0));
        assert_eq!(level("Debug"), (LevelFilter::DEBUG, 0));
        assert_eq!(level("none"), (LevelFilter::OFF, 0));
        assert_eq!(level("loud"), (LevelFilter::INFO, 1));
        let disabled = |value| with(&[("OTEL_SDK_DISABLED", value)], |env, _| sdk_disabled(env)).0;
        assert!(disabled("TRUE"));
        assert!(!disabled("false") && !disabled("") && !disabled("1"));
    }

    #[test]
    fn what_we_do_not_have_is_refused_by_name() {
        let refused = |name, value| {
            let env = |n: &str| (n == name).then_some(value).map(str::to_owned);
            refuse_unsupported(&env).err().map(|error| error.to_string())
        };
        for name in ["OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE"] {
            assert!(refused(name, "/etc/otel.yaml").is_some_and(|text| text.starts_with(name)));
            assert_eq!(refused(name, " "), None);
        }
    }
}
