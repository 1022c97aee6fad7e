//! Certificates that replicas share: whoever comes first, whatever conflicts, however much time passes.

use std::sync::Arc;

use http::{Method, StatusCode};
use meshtrace::admission::Settings;
use meshtrace::admission::certificates::{AUTHORITY_LIFE, LEAF_LIFE, OVERLAP};
use meshtrace::admission::injector::{Keeper, Source};
use meshtrace::admission::rotate::{announce, share};
use meshtrace::admission::webhook::{Times, Webhook};
use meshtrace::metrics::InjectorMetrics;
use meshtrace::net::tls::Serving;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::api_server::{ApiServer, names};
use super::client::Client;

const START: u64 = 1_800_000_000;

/// One replica: its keeper, and where it serves.
pub(super) fn replica(api: &ApiServer) -> (Keeper, Arc<Webhook>) {
    let metrics = InjectorMetrics::register(&mut Registry::default());
    let serving = Arc::new(Serving::new());
    let settings = Settings::new("meshtrace:test");
    let webhook = Webhook::new(settings, Arc::clone(&serving), metrics.clone(), Times::default());
    let keeper = Keeper {
        source: Source::Own(names()),
        cluster: Some(api.cluster()),
        serving,
        webhook: Some(Arc::clone(&webhook)),
        metrics,
        served: Default::default(),
    };
    (keeper, webhook)
}

#[tokio::test]
async fn the_first_replica_makes_what_the_others_find() {
    let api = ApiServer::start().await;
    let cluster = api.cluster();
    let first = share(&cluster, &names(), START).await.unwrap();
    let second = share(&cluster, &names(), START + 5).await.unwrap();
    assert_eq!(first, second);
    assert!(announce(&cluster, &names(), &first).await.unwrap());
    assert!(!announce(&cluster, &names(), &first).await.unwrap(), "nothing is left to say");
    assert_eq!(api.bundles(), [first.bundle(), first.bundle()]);
    let writes = api.seen().iter().filter(|request| !request.starts_with("GET")).count();
    assert_eq!(writes, 2, "{:?}", api.seen());
}

#[tokio::test]
async fn replicas_that_start_at_once_agree() {
    let api = ApiServer::start().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let api = api.clone();
        tasks.spawn(async move {
            let cluster = api.cluster();
            let certificates = share(&cluster, &names(), START).await.unwrap();
            announce(&cluster, &names(), &certificates).await.unwrap();
            certificates
        });
    }
    let all = tasks.join_all().await;
    assert!(
        all.iter().all(|certificates| *certificates == all[0]),
        "two replicas serve different certificates"
    );
    assert_eq!(api.bundles(), [all[0].bundle(), all[0].bundle()]);
}

#[tokio::test]
async fn who_comes_too_late_looks_again_a_bounded_number_of_times() {
    let api = ApiServer::start().await;
    let cluster = api.cluster();
    api.refuse(Method::GET, StatusCode::INTERNAL_SERVER_ERROR);
    let error = share(&cluster, &names(), START).await.unwrap_err().to_string();
    assert!(error.contains("500") && error.contains("secrets/meshtrace-injector"), "{error}");
    for _ in 0..5 {
        api.refuse(Method::PUT, StatusCode::CONFLICT);
    }
    // The script is kept in order: reads pass, writes are refused one after the other.
    let error = share(&cluster, &names(), START).await.unwrap_err().to_string();
    assert!(error.contains("changes faster than it can be read"), "{error}");
    let made = share(&cluster, &names(), START).await.unwrap();
    api.refuse(Method::PATCH, StatusCode::CONFLICT);
    assert!(announce(&cluster, &names(), &made).await.unwrap());
    api.empty_configuration();
    let error = announce(&cluster, &names(), &made).await.unwrap_err().to_string();
    assert!(error.contains("meshtrace install"), "{error}");
}

#[tokio::test]
async fn what_others_write_is_mended() {
    let api = ApiServer::start().await;
    let (mut keeper, _) = replica(&api);
    keeper.look(START).await.unwrap();
    let bundles = api.bundles();
    api.spoil("");
    keeper.look(START + 60).await.unwrap();
    assert_eq!(api.bundles(), bundles);
    for data in
        [json!(null), json!({}), json!({"certificates.json": "%%%"}), json!({"certificates.json": "e30="})]
    {
        api.spoil_secret(data);
        keeper.look(START + 120).await.unwrap();
        assert_ne!(api.bundles()[0], "", "there is something to trust again");
    }
}

#[tokio::test]
async fn a_year_passes_while_reviews_are_answered_over_tls() {
    let api = ApiServer::start().await;
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let (keeper, webhook) = replica(&api);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { match webhook.serve(listener).await {} });
        replicas.push((keeper, address));
    }
    let (mut renewed, mut authorities) = (0, std::collections::BTreeSet::new());
    let mut now = START;
    let mut trusted = String::new();
    while now < START + AUTHORITY_LIFE + LEAF_LIFE {
        for index in 0..replicas.len() {
            let before = replicas[index].0.served.clone();
            replicas[index].0.look(now).await.unwrap();
            renewed += usize::from(replicas[index].0.served != before);
            // API servers may still trust what they read last; both have to lead to every replica that looked.
            let current = api.bundles()[0].clone();
            authorities.insert(current.clone());
            for bundle in [&trusted, &current] {
                if bundle.is_empty() {
                    continue;
                }
                for (keeper, address) in &replicas {
                    if !keeper.served.0.is_empty() {
                        let mut client = Client::connect(*address, bundle, now).await.unwrap();
                        assert_eq!(client.review(&json!({})).await["response"]["allowed"], true);
                    }
                }
            }
            trusted = current;
        }
        now += if now.is_multiple_of(7) { OVERLAP + 60 } else { 2 * 86_400 + 1 };
    }
    assert!(renewed > 20, "{renewed}");
    assert!(authorities.len() >= 3, "no authority was replaced");
}
