//! The HTTP side of every host: which request asks for what, which snapshot answers, and all of the response but its way to the
//! client. docs/SERVING.md is the reference.
//!
//! A host reads keys and moves bytes; nothing is decided there. One with a key-value store runs an [`Exchange`] against its
//! [`Gateway`]:
//!
//! ```text
//! route(request)         a response already, or an ask: whose body the host then reads
//! gateway.step(..)       Read(keys): the host reads them, all at once, and calls again with what it found
//!                        Done(response)
//! ```
//!
//! A host that reads pages in another way, as a native server does, takes [`route`] and [`Ask::reply`] alone.

mod config;
mod gateway;
mod info;
mod log;
mod reply;
mod route;
mod text;

pub use config::{ConfigError, HttpConfig};
pub use gateway::{Exchange, Fetched, Gateway, Read, ReadKey, STEPS_BACK_MAX, Step};
pub use reply::{HttpResponse, Served};
pub use route::{Ask, HttpRequest, REQUEST_HEADERS, Route, route};
