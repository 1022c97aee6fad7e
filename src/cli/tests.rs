//! What can be typed, and what it comes to.

use super::*;
use clap::CommandFactory;

fn run(line: &str, variables: &[(&str, &str)]) -> Result<Action, Stop> {
    parse(line.split(' '), &|name: &str| {
        variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn proxy_takes_its_flags_any_number_of_times() {
    let line = "meshtrace proxy --inbound 0.0.0.0:1=a:1 --inbound 0.0.0.0:2=b:2 \
                --outbound 127.0.0.1:3 --admin off --workers 2";
    let Ok(Action::Proxy(config)) = run(line, &[]) else { panic!("{line}") };
    assert_eq!((config.inbound.len(), config.outbound.len()), (2, 1));
    assert_eq!((config.admin, config.workers), (None, 2));
}

#[test]
fn wait_asks_where_the_sidecar_listens() {
    let cases = [
        ("meshtrace wait", "", "127.0.0.1:14020", 60),
        ("meshtrace wait --timeout 5s", "0.0.0.0:9", "127.0.0.1:9", 5),
        ("meshtrace wait --admin 10.0.0.1:7 --timeout 2m", "off", "10.0.0.1:7", 120),
    ];
    for (line, variable, expect, seconds) in cases {
        let action = run(line, &[("MESHTRACE_ADMIN", variable)]);
        let Ok(Action::Wait { admin, timeout }) = action else { panic!("{action:?}") };
        assert_eq!((admin.to_string().as_str(), timeout.as_secs()), (expect, seconds), "{line}");
    }
    let Err(Stop::Config(error)) = run("meshtrace wait --admin off", &[]) else { panic!() };
    assert!(error.to_string().contains("--admin ADDR"), "{error}");
    let Err(Stop::Config(error)) = run("meshtrace wait --timeout soon", &[]) else { panic!() };
    assert!(error.to_string().starts_with("--timeout \"soon\": expected a time"), "{error}");
}

#[test]
fn the_shim_is_installed_and_printed() {
    let Ok(Action::InstallShim { dir }) = run("meshtrace shim install /x", &[]) else { panic!() };
    assert_eq!(dir.to_str(), Some("/x"));
    for (line, expect) in [
        ("meshtrace shim env /x", shim::Format::Shell),
        ("meshtrace shim env --format json /x", shim::Format::Json),
        ("meshtrace shim env /x --format dotenv", shim::Format::Dotenv),
    ] {
        let Ok(Action::PrintShim { format, .. }) = run(line, &[]) else { panic!("{line}") };
        assert_eq!(format, expect, "{line}");
    }
}

#[test]
fn check_asks_where_the_sidecar_listens() {
    for (line, expect) in
        [("meshtrace check --agent", "127.0.0.1:9"), ("meshtrace check --agent 10.0.0.1:7", "10.0.0.1:7")]
    {
        let action = run(line, &[("MESHTRACE_ADMIN", "0.0.0.0:9")]);
        let Ok(Action::CheckAgent { admin }) = action else { panic!("{action:?}") };
        assert_eq!(admin.to_string(), expect, "{line}");
    }
}

#[test]
fn stdio_takes_a_command_line_as_it_is() {
    let line = "meshtrace stdio -- npx -y server --config x -- y";
    let Ok(Action::Stdio { command, .. }) = run(line, &[]) else { panic!("{line}") };
    assert_eq!(command, ["npx", "-y", "server", "--config", "x", "--", "y"]);
    let Err(Stop::Config(error)) = run("meshtrace stdio -- x", &[("OTEL_TRACES_EXPORTER", "console")]) else {
        panic!("stdout is the server's")
    };
    assert!(error.to_string().contains("stdout"), "{error}");
}

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    let code = |line| match run(line, &[]) {
        Err(Stop::Usage(error)) => error.exit_code(),
        other => panic!("{line}: {other:?}"),
    };
    for line in [
        "meshtrace",
        "meshtrace stdio",
        "meshtrace nonsense",
        "meshtrace proxy --inbund x",
        "meshtrace demo x",
        "meshtrace shim",
        "meshtrace shim env /x --format xml",
    ] {
        assert_eq!(code(line), 2, "{line}");
    }
    for line in [
        "meshtrace --version",
        "meshtrace --help",
        "meshtrace proxy --help",
        "meshtrace wait -h",
        "meshtrace shim --help",
    ] {
        assert_eq!(code(line), 0, "{line}");
    }
    let Err(Stop::Config(error)) = run("meshtrace proxy", &[]) else { panic!() };
    let text = error.to_string();
    assert!(text.contains("--inbound LISTEN=APP") && text.contains("--outbound LISTEN"), "{text}");
}

#[test]
fn the_help_of_every_flag_names_its_variable_and_default() {
    let mut cli = Cli::command();
    for name in ["proxy", "wait", "check"] {
        let command = cli.find_subcommand_mut(name).unwrap();
        for argument in command.get_arguments() {
            let help = argument.get_long_help().map(ToString::to_string).unwrap_or_default();
            let stated = help.contains("[default: ") || !argument.get_default_values().is_empty();
            assert!(stated, "{name} --{}: {help}", argument.get_id());
            let flag = argument.get_id().as_str();
            let variable = format!("MESHTRACE_{}", flag.to_uppercase().replace('-', "_"));
            let admin = flag == "agent" && help.contains("MESHTRACE_ADMIN");
            let own = admin || ["timeout", "store"].contains(&flag);
            assert!(own || help.contains(&variable), "{name} --{flag}: {help}");
        }
    }
}
