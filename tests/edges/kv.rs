//! The key-value store that hosts read in tests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

#[path = "../vendors/http.rs"]
pub(crate) mod http;

use http::{Answer, Request, Response, Server};

/// A key-value store over the protocol of workerd's KV bindings, on loopback. It can lose, damage and refuse keys.
#[derive(Clone)]
pub(crate) struct Kv {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _server: Arc<Server>,
}

#[derive(Default)]
struct State {
    keys: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Keys that get an error.
    failing: Mutex<Vec<String>>,
    /// Keys that are asked for and never answered.
    hanging: Mutex<Vec<String>>,
}

impl Kv {
    pub(crate) fn start(keys: Vec<(String, Vec<u8>)>) -> Self {
        let state = Arc::new(State { keys: Mutex::new(keys.into_iter().collect()), ..State::default() });
        let served = Arc::clone(&state);
        let server = Server::start(move |request| served.answer(request));
        Self { address: server.address, state, _server: Arc::new(server) }
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> T {
        change(&mut self.state.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this key gets an error.
    pub(crate) fn fail(&self, key: &str) {
        self.state.failing.lock().unwrap_or_else(PoisonError::into_inner).push(key.to_owned());
    }

    /// From now on this key gets no answer.
    pub(crate) fn hang(&self, key: &str) {
        self.state.hanging.lock().unwrap_or_else(PoisonError::into_inner).push(key.to_owned());
    }
}

impl State {
    fn answer(&self, request: &Request) -> Answer {
        let key = request.path().trim_start_matches('/').replace("%2F", "/");
        if self.hanging.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
            return Answer::Hang;
        }
        let response = match self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            _ if self.failing.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) => Response::new(500, []),
            Some(value) => Response::new(200, value.clone()),
            None => Response::new(404, []),
        };
        Answer::Whole(response)
    }
}
