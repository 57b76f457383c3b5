//! What must be true at every moment, and is looked at after every write and every response.

use std::collections::BTreeMap;
use std::sync::Arc;

use mezze_core::{HEAD_KEY, Head, HttpResponse, SnapshotId};
use mezze_replica::{EpochRecord, PublishReport};

use crate::chain::{Chain, Content};
use crate::world::{SECOND, World};

#[derive(Default)]
pub(crate) struct Watch {
    /// What must not be and was, the first of it.
    pub(crate) violation: Option<String>,
    /// The snapshot of each epoch that was ever given out, by its number in the chain.
    epochs: BTreeMap<u64, usize>,
    /// The newest epoch that is not for one replica alone.
    newest: u64,
    head_epoch: u64,
    /// Heads that somebody may still go by, the current one last.
    shown: Vec<Shown>,
}

struct Shown {
    epoch: u64,
    contents: Vec<Arc<Content>>,
    /// Nobody goes by it after this; of the current one nothing is known.
    until: Option<i64>,
}

impl Watch {
    /// The links of the chain that epochs were given to.
    pub(crate) fn revealed(&self) -> usize {
        self.epochs.values().map(|link| link + 1).max().unwrap_or(0)
    }
}

impl World {
    /// An epoch's record is created in the origin.
    pub(crate) fn watch_epoch_record(&mut self, key: &str, bytes: &[u8]) {
        if !key.starts_with("epochs/") {
            return;
        }
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let Ok(record) = serde_json::from_slice::<EpochRecord>(line) else { return self.violate(format!("{key} is no record")) };
        let Some(link) = Chain::get().link_of(record.snapshot) else { return self.violate(format!("{key} names no snapshot")) };
        let EpochRecord { epoch, reason, replica, .. } = record;
        if replica.is_none() {
            self.watch.newest = self.watch.newest.max(epoch);
        }
        self.note(|| format!("epoch {epoch} is given to snapshot {link} ({reason})"));
        self.stats.count("epochs");
        if self.watch.epochs.insert(epoch, link).is_some_and(|before| before != link) {
            self.violate(format!("(b) epoch {epoch} names two contents"));
        }
        for (key, _) in &Chain::get().links[link].objects {
            if !self.origin.contains_key(key) {
                self.violate(format!("(e) epoch {epoch} is given out, and the origin has no {key}"));
            }
        }
    }

    /// An object of the origin is removed.
    pub(crate) fn watch_removal(&mut self, key: &str) {
        let newest = self.watch.epochs.get(&self.watch.newest).map(|link| &Chain::get().links[*link]);
        if newest.is_some_and(|link| link.objects.iter().any(|(known, _)| known == key)) {
            self.violate(format!("(e) the origin's newest epoch is {}, and {key} is removed", self.watch.newest));
        }
    }

    /// The central copy of the head is replaced.
    pub(crate) fn watch_head(&mut self, value: &[u8]) {
        let head = match Head::decode(value) {
            Ok(head) => head,
            Err(error) => return self.violate(format!("a head is no head: {error}")),
        };
        let previous: Vec<u64> = head.previous.iter().map(|previous| previous.epoch).collect();
        let epoch = head.epoch;
        self.note(|| format!("HEAD is epoch {epoch}, before it {previous:?}"));
        self.stats.count("heads");
        if epoch < self.watch.head_epoch {
            self.violate(format!("(g) the head goes from epoch {} down to {epoch}", self.watch.head_epoch));
        }
        self.watch.head_epoch = epoch;
        let until = self.agenda.now + SHOWN_SECONDS * SECOND;
        for shown in &mut self.watch.shown {
            shown.until.get_or_insert(until);
        }
        let mut contents = Vec::new();
        let named = std::iter::once((epoch, head.snapshot));
        for (epoch, snapshot) in named.chain(head.previous.iter().map(|previous| (previous.epoch, previous.snapshot))) {
            match self.content_of(epoch, snapshot) {
                Ok(content) => contents.push(content),
                Err(what) => return self.violate(format!("(b) the head names {what}")),
            }
        }
        for content in &contents {
            for (key, value) in &content.keys {
                if self.central.get(key).is_none_or(|stored| stored.value != value) {
                    self.violate(format!("(f) the head of epoch {epoch} names what needs {key}, and that is not there"));
                }
            }
        }
        self.watch.shown.push(Shown { epoch, contents, until: None });
    }

    /// A key of the central copy is written or removed.
    pub(crate) fn watch_key(&mut self, key: &str) {
        let now = self.agenda.now;
        self.watch.shown.retain(|shown| shown.until.is_none_or(|until| until > now));
        let found = self.central.get(key).map(|stored| &stored.value);
        let mut wrong = None;
        for shown in &self.watch.shown {
            if shown.contents.iter().any(|content| content.keys.get(key).is_some_and(|value| Some(value) != found)) {
                let rule = if shown.until.is_some() { "(e) somebody may go by" } else { "(f) the store has" };
                wrong = Some(format!("{rule} a head of epoch {}, which names {key}, and that is gone", shown.epoch));
            }
        }
        if let Some(wrong) = wrong {
            self.violate(wrong);
        }
    }

    fn content_of(&self, epoch: u64, snapshot: SnapshotId) -> Result<Arc<Content>, String> {
        let link = self.watch.epochs.get(&epoch).ok_or_else(|| format!("epoch {epoch}, which nobody has given out"))?;
        let (id, content) = Chain::get().content(*link, self.setting.audience);
        if id == snapshot { Ok(Arc::clone(content)) } else { Err(format!("{snapshot} as epoch {epoch}, which is {id}")) }
    }

    /// A publish says that it has succeeded.
    pub(crate) fn watch_report(&mut self, report: &PublishReport) {
        let epoch = report.record.epoch;
        if self.watch.head_epoch < epoch {
            return self
                .violate(format!("(h) a publish of epoch {epoch} reports success, the head is {}", self.watch.head_epoch));
        }
        let Some(link) = self.watch.epochs.get(&epoch).copied() else {
            return self.violate(format!("(h) a publish reports epoch {epoch}, which nobody has given out"));
        };
        let content = Arc::clone(Chain::get().content(link, self.setting.audience).1);
        if self.watch.head_epoch == epoch
            && content.keys.iter().any(|(key, value)| self.central.get(key).is_none_or(|stored| stored.value != value))
        {
            self.violate(format!("(h) a publish of epoch {epoch} reports success, and not all of it is there"));
        }
        if !self.central.contains_key(HEAD_KEY) {
            self.violate("(h) a publish reports success, and there is no head");
        }
    }

    /// A response to request number `asked` of a client that had seen epoch `seen`. Returns the epoch that it names.
    pub(crate) fn watch_response(&mut self, asked: usize, seen: u64, response: &HttpResponse) -> Option<u64> {
        let header = |name| response.header(name).map(str::to_owned);
        *self.stats.responses.entry(response.status.to_string()).or_default() += 1;
        let steps_back = header("x-mezze-steps-back");
        if let Some(steps) = &steps_back {
            *self.stats.steps_back.entry(steps.clone()).or_default() += 1;
        }
        match response.status {
            200 => {}
            503 => return None,
            409 => {
                let epoch: u64 = header("x-mezze-epoch")?.parse().ok()?;
                if epoch >= seen {
                    self.violate(format!("a client that has seen {seen} gets a conflict at epoch {epoch}"));
                }
                return None;
            }
            status => {
                let body = String::from_utf8_lossy(&response.body).into_owned();
                self.violate(format!("a response has status {status}: {body}"));
                return None;
            }
        }
        let epoch: Option<u64> = header("x-mezze-epoch").and_then(|text| text.parse().ok());
        let snapshot: Option<SnapshotId> = header("x-mezze-snapshot").and_then(|text| text.parse().ok());
        let (Some(epoch), Some(snapshot)) = (epoch, snapshot) else {
            self.violate("a response does not say which snapshot it is of");
            return None;
        };
        if epoch < seen {
            self.violate(format!("(c) a client that has seen epoch {seen} gets epoch {epoch}"));
        }
        match self.content_of(epoch, snapshot) {
            Ok(content) if content.answers[asked] != response.body => {
                let body = String::from_utf8_lossy(&response.body).into_owned();
                let expected = String::from_utf8_lossy(&content.answers[asked]).into_owned();
                self.violate(format!("(a) a response of epoch {epoch} is\n{body}\nand should be\n{expected}"));
            }
            Ok(_) => {}
            Err(what) => self.violate(format!("(a) a response names {what}")),
        }
        Some(epoch)
    }
}

/// For how long a head counts as shown after another took its place: the hour that a prune promises, less what clocks may differ by
/// and what a publish may take from its announcement to its head.
const SHOWN_SECONDS: i64 = 3_600 - 600;
