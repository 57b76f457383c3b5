//! From the bytes of a request to those of its response: what every host does, so that all give the same bytes.

use alloc::{string::String, string::ToString, vec::Vec};

use crate::{
    AnswerError, LimitKind, Limits, MediaType, PageRef, Plan, PlanError, Request, Snapshot, Timestamp, WireError,
    write_error_json,
};

/// A request that gets no features: what to say to the client instead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The class of Feast's SDK that says the same.
    pub class: &'static str,
    /// What is wrong, for people.
    pub message: String,
    /// After how many seconds the client may ask again, if it may.
    pub retry_after_seconds: Option<u32>,
}

impl Refusal {
    /// No snapshot can answer now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { status: 503, class: "FeastError", message: message.into(), retry_after_seconds: Some(1) }
    }

    /// A component had to be stopped, on a host where that ends the request. The next may do better.
    #[cfg(feature = "expressions")]
    pub fn of_overrun(features: &crate::Response<'_>, transforms: &dyn crate::RunTransforms) -> Option<Self> {
        let stopped = features.faults.iter().find(|fault| fault.fault.kind.is_overrun())?;
        let refusal = || Self { retry_after_seconds: None, ..Self::unavailable(stopped.to_string()) };
        transforms.overrun_ends_request().then(refusal)
    }

    /// Appends the body of the response. It is JSON, whatever media type the client accepts.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_error_json(self.class, &self.message, out);
    }
}

impl From<PlanError> for Refusal {
    fn from(error: PlanError) -> Self {
        let (status, class) = (error.http_status(), error.feast_class());
        Self { status, class, message: error.to_string(), retry_after_seconds: None }
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        let (status, class) = (error.http_status(), error.feast_class());
        Self { status, class, message: error.to_string(), retry_after_seconds: None }
    }
}

impl Snapshot {
    /// [`Snapshot::plan`] for the bytes of a request.
    ///
    /// # Errors
    /// [`Refusal`] where they are no request, or one that does not fit the snapshot or the limits.
    pub fn plan_body(&self, body: &[u8], media_type: MediaType, now: Timestamp, limits: &Limits) -> Result<Plan, Refusal> {
        if body.len() > limits.request_bytes_max {
            let error = PlanError::Limit { kind: LimitKind::RequestBytes, asked: body.len(), allowed: limits.request_bytes_max };
            return Err(error.into());
        }
        Ok(self.plan(&Request::from_body(body, media_type)?, now, limits)?)
    }
}

impl Plan {
    /// [`Plan::answer`] as the bytes of a response, appended to `out`. On an error `out` is as it was.
    ///
    /// # Errors
    /// [`AnswerError`] where a page is missing or damaged.
    pub fn write_answer(
        &self,
        pages: &[Option<PageRef<'_>>],
        media_type: MediaType,
        out: &mut Vec<u8>,
    ) -> Result<(), AnswerError> {
        let start = out.len();
        let response = self.answer(pages)?;
        let written = response.write(media_type, out);
        written.map_err(|error| {
            out.truncate(start);
            AnswerError::Value { error }
        })
    }
}
