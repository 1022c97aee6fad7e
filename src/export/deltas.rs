//! What was counted since the collector last took something, of metrics that are read as cumulative.
//!
//! The state is what it took last, and no more than the process counts in at a time. An export that it did not take
//! leaves the state as it is, so the next one covers that time too, and nothing is lost or counted twice.
//!
//! Series may go, and those that are called `other` then go on with their counts. These were told once already, and are
//! owed by `other` until they are settled.

use std::collections::{BTreeMap, HashMap};
use std::mem;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum, metric::Data,
    number_data_point,
};
use prost::Message;

use crate::metrics::operations::OTHER;

/// The most series of one metric that are told apart in what is owed; those beyond are owed as one.
const MAX_DEBTS: usize = 512;

/// The clock of exemplars has steps of a millisecond.
const EXEMPLAR_STEP: u64 = 1_000_000;

/// What the collector knows.
#[derive(Debug)]
pub(super) struct Deltas {
    since: u64,
    told: Told,
}

/// What it knows once it has taken a request.
#[derive(Debug)]
pub(super) struct Next(Deltas);

/// By the name of the metric.
type Told = HashMap<String, Family>;

#[derive(Clone, Debug, Default)]
struct Family {
    /// What each series has counted, by its attributes.
    series: BTreeMap<Key, Counts>,
    owed: Vec<(Key, Counts)>,
}

/// Attributes as bytes of OTLP, each by itself.
type Key = Vec<Vec<u8>>;

/// A number or a histogram: its buckets (of a number the one), and the sum of what was measured.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counts {
    buckets: Vec<u64>,
    sum: f64,
}

impl Deltas {
    /// Nothing was told before `since`, in nanoseconds since the Unix epoch.
    pub(super) fn since(since: u64) -> Self {
        Deltas { since, told: Told::new() }
    }

    /// Makes what was counted since of what was counted in all until `now`. Gauges stay as they are, and a series in
    /// which nothing was counted is left out.
    pub(super) fn of(&self, request: &mut ExportMetricsServiceRequest, now: u64) -> Next {
        let mut next = Deltas { since: now, told: Told::new() };
        for resource in &mut request.resource_metrics {
            for scope in &mut resource.scope_metrics {
                scope.metrics.retain_mut(|metric| self.metric(metric, &mut next.told));
            }
        }
        Next(next)
    }

    /// The collector has taken it.
    pub(super) fn taken(&mut self, Next(next): Next) {
        *self = next;
    }

    /// Whether anything is left to tell of the metric.
    fn metric(&self, metric: &mut Metric, next: &mut Told) -> bool {
        let mut told = self.told.get(&metric.name).cloned().unwrap_or_default();
        let left = match &mut metric.data {
            Some(Data::Sum(Sum { data_points, aggregation_temporality, .. })) => {
                *aggregation_temporality = AggregationTemporality::Delta as i32;
                self.points(data_points, &mut told)
            }
            Some(Data::Histogram(Histogram { data_points, aggregation_temporality })) => {
                *aggregation_temporality = AggregationTemporality::Delta as i32;
                self.points(data_points, &mut told)
            }
            _ => return true,
        };
        next.insert(metric.name.clone(), told);
        left
    }

    fn points<P: Point>(&self, points: &mut Vec<P>, told: &mut Family) -> bool {
        let keys: Vec<Key> = points.iter().map(|point| key(point.attributes())).collect();
        let mut before = mem::take(&mut told.series);
        let mut deltas = Vec::with_capacity(points.len());
        for (point, key) in points.iter().zip(&keys) {
            let counts = point.counts();
            let delta = match before.remove(key) {
                // One that has fallen has gone and come again.
                Some(had) => counts.minus(&had).unwrap_or_else(|| {
                    told.owe(key.clone(), had);
                    counts.clone()
                }),
                None => counts.clone(),
            };
            told.series.insert(key.clone(), counts);
            deltas.push(delta);
        }
        for (key, counts) in before {
            told.owe(key, counts);
        }
        let others: Vec<_> = points.iter().map(|point| is_other(point.attributes())).collect();
        told.settle(&keys, &others, &mut deltas);
        let mut deltas = deltas.into_iter();
        points.retain_mut(|point| {
            let Some(delta) = deltas.next().filter(|delta| !delta.is_nothing()) else { return false };
            point.tell(&delta, self.since);
            true
        });
        !points.is_empty()
    }
}

impl Family {
    fn owe(&mut self, key: Key, counts: Counts) {
        if counts.is_nothing() {
            return;
        }
        let full = self.owed.len() >= MAX_DEBTS;
        match self.owed.last_mut() {
            Some((_, last)) if full => last.add(&counts),
            _ => self.owed.push((key, counts)),
        }
    }

    /// Takes what is owed out of what others have counted since, first out of those that are most alike.
    fn settle(&mut self, keys: &[Key], others: &[bool], deltas: &mut [Counts]) {
        for (key, owed) in &mut self.owed {
            let mut payers: Vec<usize> = (0..deltas.len()).filter(|at| others[*at]).collect();
            payers.sort_by_key(|at| usize::MAX - alike(key, &keys[*at]));
            for payer in payers {
                owed.pay_from(&mut deltas[payer]);
            }
        }
        self.owed.retain(|(_, owed)| !owed.is_nothing());
    }
}

impl Counts {
    fn is_nothing(&self) -> bool {
        self.buckets.iter().all(|count| *count == 0)
    }

    /// `None` where something is less than it was, or where what was measured changed and how often did not.
    fn minus(&self, had: &Counts) -> Option<Counts> {
        if self.buckets.len() != had.buckets.len() {
            return None;
        }
        let pairs = self.buckets.iter().zip(&had.buckets);
        let buckets = pairs.map(|(now, had)| now.checked_sub(*had)).collect::<Option<_>>()?;
        let delta = Counts { buckets, sum: self.sum - had.sum };
        let same = delta.sum >= 0.0 && (delta.sum == 0.0 || !delta.is_nothing());
        same.then_some(delta)
    }

    fn add(&mut self, other: &Counts) {
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        for (into, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *into += count;
        }
        self.sum += other.sum;
    }

    /// Takes as much of itself out of `other` as there is.
    fn pay_from(&mut self, other: &mut Counts) {
        for (owed, has) in self.buckets.iter_mut().zip(&mut other.buckets) {
            let paid = (*owed).min(*has);
            *owed -= paid;
            *has -= paid;
        }
        let paid = self.sum.min(other.sum);
        self.sum -= paid;
        other.sum -= paid;
    }
}

/// A point of either kind of metric that counts.
trait Point {
    fn attributes(&self) -> &[KeyValue];
    fn counts(&self) -> Counts;
    fn tell(&mut self, delta: &Counts, since: u64);
}

impl Point for NumberDataPoint {
    fn attributes(&self) -> &[KeyValue] {
        &self.attributes
    }

    /// All counters of ours are whole numbers.
    fn counts(&self) -> Counts {
        let count = match self.value {
            Some(number_data_point::Value::AsInt(count)) => u64::try_from(count).unwrap_or_default(),
            Some(number_data_point::Value::AsDouble(count)) => count as u64,
            None => 0,
        };
        Counts { buckets: vec![count], sum: 0.0 }
    }

    fn tell(&mut self, delta: &Counts, since: u64) {
        let count = delta.buckets.iter().sum::<u64>();
        self.value = Some(number_data_point::Value::AsInt(i64::try_from(count).unwrap_or(i64::MAX)));
        self.start_time_unix_nano = since;
    }
}

impl Point for HistogramDataPoint {
    fn attributes(&self) -> &[KeyValue] {
        &self.attributes
    }

    fn counts(&self) -> Counts {
        Counts { buckets: self.bucket_counts.clone(), sum: self.sum.unwrap_or_default() }
    }

    fn tell(&mut self, delta: &Counts, since: u64) {
        self.bucket_counts.clone_from(&delta.buckets);
        self.count = delta.buckets.iter().sum();
        self.sum = Some(delta.sum);
        self.start_time_unix_nano = since;
        self.exemplars.retain(|exemplar| exemplar.time_unix_nano.saturating_add(EXEMPLAR_STEP) > since);
    }
}

fn key(attributes: &[KeyValue]) -> Key {
    attributes.iter().map(KeyValue::encode_to_vec).collect()
}

fn is_other(attributes: &[KeyValue]) -> bool {
    attributes.iter().filter_map(|attribute| attribute.value.as_ref()?.value.as_ref()).any(
        |value| matches!(value, any_value::Value::StringValue(text) if text == OTHER || text == "_OTHER"),
    )
}

/// How many attributes two series have in common.
fn alike(one: &Key, other: &Key) -> usize {
    one.iter().filter(|attribute| other.contains(attribute)).count()
}

#[cfg(test)]
mod tests;
