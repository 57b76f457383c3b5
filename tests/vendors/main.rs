//! The stores that tests write to hold to what they say: the limits and faults of the imitations, and what the real servers must
//! be able to do.

#[path = "tests/client.rs"]
mod client;
#[path = "tests/cloudflare.rs"]
mod cloudflare;
#[path = "tests/fastly.rs"]
mod fastly;
#[path = "tests/http.rs"]
mod http;
#[path = "tests/redis.rs"]
mod redis;
#[path = "tests/s3.rs"]
mod s3;
#[path = "mod.rs"]
mod vendors;
