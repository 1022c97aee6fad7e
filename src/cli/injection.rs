//! The command lines that add the sidecar to pods.

use std::path::PathBuf;

use clap::Args;

use super::Action;
use crate::admission::Settings;
use crate::config::{self, error, injection::Flags};

/// What `meshtrace inject` is to do.
#[derive(Debug)]
pub struct InjectJob {
    /// The manifests, in order.
    pub inputs: Vec<Input>,
    /// Take the sidecar out.
    pub undo: bool,
    /// What is added.
    pub settings: Settings,
}

/// Where manifests come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

/// Add the sidecar to the pods of manifests, as the injector does in a cluster.
///
/// Reads Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs and Lists, and writes the stream to
/// stdout with the sidecar in each pod; everything else passes unchanged. A pod template with meshtrace.io/inject:
/// "false" is left alone. Comments in the documents that change are lost. What was done is said on stderr.
///
/// kubectl get deployment NAME -o yaml | meshtrace inject -f - | kubectl apply -f -
#[derive(Debug, Args)]
pub(super) struct InjectArgs {
    /// The manifests: a file, or - for stdin. May be repeated.
    #[arg(short, long, value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,

    /// Take the sidecar out again.
    #[arg(long)]
    undo: bool,

    #[command(flatten)]
    injection: InjectionArgs,
}

/// What is added to pods that do not say otherwise.
#[derive(Debug, Args)]
pub(super) struct InjectionArgs {
    /// The image of the sidecar; short for --set proxy-image=IMAGE.
    ///
    /// [default: meshtrace: and this program's version]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,

    /// A default for the pod annotation meshtrace.io/KEY. May be repeated.
    ///
    /// For example --set otlp-endpoint=http://collector.observability:4318. The README lists the keys. What a pod
    /// says itself wins.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// The version of the cluster, such as 1.34, by which the form of the sidecar is chosen.
    ///
    /// [default: asked of the cluster by the injector; else one with native sidecars]
    #[arg(long, value_name = "VERSION")]
    kubernetes_version: Option<String>,

    /// The user id of the sidecar, which capture spares.
    #[arg(long, value_name = "ID", default_value = "14100")]
    uid: String,
}

impl InjectionArgs {
    fn settings(self) -> Result<Settings, error::Error> {
        let InjectionArgs { image, set, kubernetes_version, uid } = self;
        config::injection::load(&Flags { image, set, kubernetes_version, uid })
    }
}

impl InjectArgs {
    pub(super) fn action(self) -> Result<Action, error::Error> {
        let input = |path: PathBuf| if path.as_os_str() == "-" { Input::Stdin } else { Input::File(path) };
        let inputs = self.filename.into_iter().map(input).collect();
        let settings = self.injection.settings()?;
        Ok(Action::Inject(Box::new(InjectJob { inputs, undo: self.undo, settings })))
    }
}
