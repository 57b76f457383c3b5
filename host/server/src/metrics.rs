//! Numbers about what was answered, in Prometheus's text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use mezze_core::{HttpResponse, TransformFaultKind};

/// Counts of responses since the server began.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By the first digit of the status, from 1.
    responses: [AtomicU64; 5],
    /// By view and kind.
    faults: Mutex<BTreeMap<(String, TransformFaultKind), u64>>,
}

impl Metrics {
    /// Counts a response.
    pub(crate) fn count(&self, response: &HttpResponse) {
        let class = usize::from(response.status / 100).wrapping_sub(1);
        if let Some(count) = self.responses.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if !response.faults.is_empty() {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            for fault in &response.faults {
                *faults.entry((fault.view.clone(), fault.fault.kind)).or_default() += 1;
            }
        }
    }

    /// All of them, and which snapshot is served.
    pub(crate) fn text(&self, epoch: u64, age_seconds: i64) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let responses: Vec<(String, u64)> = (1..)
            .zip(&self.responses)
            .map(|(class, count)| (format!("{{status=\"{class}xx\"}}"), count.load(Ordering::Relaxed)))
            .collect();
        family("mezze_responses_total", "counter", "Responses by class of status.", &responses);
        let faults: Vec<(String, u64)> = self
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            // Names of views have no character that would have to be escaped.
            .map(|((view, kind), count)| (format!("{{view=\"{view}\",kind=\"{}\"}}", kind.name()), *count))
            .collect();
        family("mezze_transform_failures_total", "counter", "Calls of transforms that gave no features.", &faults);
        family("mezze_snapshot_epoch", "gauge", "The epoch that is served.", &[(String::new(), epoch)]);
        let age = u64::try_from(age_seconds).unwrap_or(0);
        family("mezze_snapshot_age_seconds", "gauge", "Seconds since its head was made.", &[(String::new(), age)]);
        text
    }
}
