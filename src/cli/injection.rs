//! The command lines that add the sidecar to pods.

use std::path::PathBuf;

use clap::Args;

use super::Action;
use crate::admission::Settings;
use crate::config::injection::{self, Flags, InjectorFlags, InstallFlags};
use crate::config::{Environment, error};

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
    /// [env: MESHTRACE_IMAGE] [default: meshtrace: and this program's version]
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
    fn flags(self) -> Flags {
        let InjectionArgs { image, set, kubernetes_version, uid } = self;
        Flags { image, set, kubernetes_version, uid }
    }
}

impl InjectArgs {
    pub(super) fn action(self, env: Environment<'_>) -> Result<Action, error::Error> {
        let input = |path: PathBuf| if path.as_os_str() == "-" { Input::Stdin } else { Input::File(path) };
        let inputs = self.filename.into_iter().map(input).collect();
        let settings = injection::load(&self.injection.flags(), env)?;
        Ok(Action::Inject(Box::new(InjectJob { inputs, undo: self.undo, settings })))
    }
}

/// Run the admission webhook that adds the sidecar to pods.
///
/// API servers send it the pods that ask by label or annotation meshtrace.io/inject: "true", or whose namespace does by
/// label; `meshtrace install` prints the manifests that lead there. It never denies a pod. By default it makes its
/// certificates itself, shares them with its replicas in a Secret, and tells the API servers to trust them.
#[derive(Debug, Args)]
pub(super) struct InjectorArgs {
    /// Where API servers reach the webhook.
    #[arg(long, value_name = "ADDR", default_value = "[::]:14043")]
    listen: String,

    /// Serve /live, /ready and /metrics on LISTEN, or nowhere: off.
    ///
    /// [env: MESHTRACE_ADMIN] [default: [::]:14020]
    #[arg(long, value_name = "LISTEN")]
    admin: Option<String>,

    /// Serve the certificate chain in this PEM file, and look for changes in it, instead of making one. With --key.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,

    /// The private key of --certificate, as PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,

    /// The name of Secret, Service and MutatingWebhookConfiguration.
    #[arg(long, value_name = "NAME", default_value = "meshtrace-injector")]
    name: String,

    /// The namespace of Secret and Service.
    ///
    /// [default: that of the service account]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,

    #[command(flatten)]
    injection: InjectionArgs,
}

impl InjectorArgs {
    pub(super) fn action(self, env: Environment<'_>) -> Result<Action, error::Error> {
        let InjectorArgs { listen, admin, certificate, key, name, namespace, injection } = self;
        let flags = injection.flags();
        let flags =
            InjectorFlags { listen, admin, files: certificate.zip(key), name, namespace, injection: flags };
        Ok(Action::Injector(Box::new(injection::injector(&flags, env)?)))
    }
}

/// Print the manifests that install the injector in a cluster.
///
/// meshtrace install --set otlp-endpoint=http://collector.observability:4318 | kubectl apply -f -
#[derive(Debug, Args)]
pub(super) struct InstallArgs {
    /// webhook: a webhook that makes its own certificates; cert-manager: one whose certificates cert-manager makes;
    /// policy: a MutatingAdmissionPolicy that the API server evaluates, for Kubernetes 1.36 and later.
    #[arg(long, value_name = "MODE", default_value = "webhook")]
    mode: String,

    /// The namespace of the injector.
    #[arg(long, value_name = "NAME", default_value = "meshtrace-system")]
    namespace: String,

    #[command(flatten)]
    injection: InjectionArgs,
}

impl InstallArgs {
    pub(super) fn action(self, env: Environment<'_>) -> Result<Action, error::Error> {
        let flags =
            InstallFlags { mode: self.mode, namespace: self.namespace, injection: self.injection.flags() };
        Ok(Action::Install(Box::new(injection::install(&flags, env)?)))
    }
}
