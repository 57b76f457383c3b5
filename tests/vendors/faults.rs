//! What the imitations have in common besides HTTP: which calls are to fail and how, and what was called.

use std::collections::{BTreeMap, BTreeSet};

use super::http::{Answer, Request, Response};

/// What a call is of, whatever its path is at the vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Many deletions.
    BulkDelete,
    /// Many reads.
    BulkRead,
    /// Many writes.
    BulkWrite,
    Delete,
    List,
    /// The metadata of one key.
    Metadata,
    /// Whatever the imitation does not know.
    Other,
    Read,
    Write,
}

/// Which calls a fault is for. Calls are counted from 1, refused ones too.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// This call.
    Call(u64),
    /// Every n-th call.
    Every(u64),
    /// This call and all after it.
    From(u64),
    /// The n-th call of a kind.
    Kind(Kind, u64),
}

/// What goes wrong. Where several are planned for a call, the earliest that was planned wins.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection is closed without a response, after the request was read.
    ConnectionCut(Work),
    /// The error of a day's writes that are used up.
    DailyWrites,
    /// Of the pairs of a bulk write or bulk delete these fail, with the status of success.
    Partial(Which),
    /// The work is done, its response is incomplete.
    ResponseCut(At),
    /// The error of a token that is not valid any more.
    Revoked,
    /// This status with a body that is not the vendor's, as a gateway in between gives.
    Status(u16),
    /// The error of an account whose storage is full.
    StorageFull,
    /// The error of too many calls, whatever the calls before were; seconds to wait, where it says so.
    TooMany(Option<u64>),
}

/// Whether the work was done before the connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Done,
    NotDone,
}

/// Where a response is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// In the middle of its body, where the connection is closed.
    Body,
    /// In the middle of its head, where the connection is closed.
    Head,
    /// In the middle of its body, and its length agrees: as by a proxy that is wrong.
    Length,
}

/// Which pairs of a bulk write fail.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    /// Every n-th pair of the request, counted from 1.
    Every(usize),
    /// These keys.
    Keys(BTreeSet<String>),
}

/// A call as it came, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) kind: Kind,
    /// How many keys it named.
    pub(crate) pairs: usize,
    /// The size of its body.
    pub(crate) bytes: usize,
    /// The response's status; `None` where nothing was said.
    pub(crate) status: Option<u16>,
}

/// What has been done, as a vendor counts it for its bill: by keys, not by calls. Refused calls are not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Keys that were written.
    pub(crate) writes: u64,
    /// Bytes of the values that were written.
    pub(crate) bytes: u64,
    /// Keys that were deleted, or that were asked to be and were not there.
    pub(crate) deletes: u64,
    /// Listings, one for each page.
    pub(crate) lists: u64,
    /// Keys that were read, or that were asked for and were not there.
    pub(crate) reads: u64,
}

/// The plan of faults, and the calls so far.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) calls: Vec<Call>,
    pub(crate) counters: Counters,
    plan: Vec<(When, Fault)>,
    begun: u64,
    begun_by_kind: BTreeMap<Kind, u64>,
}

impl Which {
    /// Whether the pair at an index fails.
    pub(crate) fn is(&self, index: usize, key: &str) -> bool {
        match self {
            Self::Every(count) => (index + 1).is_multiple_of(*count),
            Self::Keys(keys) => keys.contains(key),
        }
    }

    pub(crate) fn keys<const COUNT: usize>(keys: [&str; COUNT]) -> Self {
        Self::Keys(keys.map(str::to_owned).into())
    }
}

impl Journal {
    pub(crate) fn plan(&mut self, when: When, fault: Fault) {
        self.plan.push((when, fault));
    }

    /// Takes down a call: its index, and what goes wrong with it.
    pub(crate) fn begin(&mut self, kind: Kind, request: &Request) -> (usize, Option<Fault>) {
        self.begun += 1;
        let of_kind = self.begun_by_kind.entry(kind).or_default();
        *of_kind += 1;
        self.calls.push(Call { method: request.method.clone(), kind, pairs: 0, bytes: request.body.len(), status: None });
        let is_now = |when: &When| match *when {
            When::Call(number) => self.begun == number,
            When::Every(count) => self.begun.is_multiple_of(count),
            When::From(number) => self.begun >= number,
            When::Kind(of, number) => of == kind && *of_kind == number,
        };
        let fault = self.plan.iter().find(|(when, _)| is_now(when)).map(|(_, fault)| fault.clone());
        (self.calls.len() - 1, fault)
    }

    /// Takes down how many keys the call names that has begun last.
    pub(crate) fn pairs(&mut self, count: usize) {
        self.calls.last_mut().expect("a call has begun").pairs = count;
    }

    /// Takes down what the call ends with, and damages that where it is planned.
    pub(crate) fn end(&mut self, call: usize, mut response: Response, fault: Option<&Fault>) -> Answer {
        let call = &mut self.calls[call];
        if matches!(fault, Some(Fault::ConnectionCut(_))) {
            return Answer::Close;
        }
        call.status = Some(response.status);
        match fault {
            Some(Fault::ResponseCut(At::Body)) => Answer::CutBody(response),
            Some(Fault::ResponseCut(At::Head)) => Answer::CutHead(response),
            Some(Fault::ResponseCut(At::Length)) => {
                response.body.truncate(response.body.len() / 2);
                Answer::Whole(response)
            }
            _ => Answer::Whole(response),
        }
    }
}
