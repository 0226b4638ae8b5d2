//! What the gateways were asked lately and what they made of it: the last few hundred calls, in memory.
//! Never holds a secret: explanations come from the gateways, which keep keys out of them.
//! Shown at `GET /log`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::domain::id::{Channel, UnixMillis};

/// One call.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// RFC 3339.
    pub at: String,
    /// Which gateway.
    pub channel: Channel,
    /// `wx.unifiedorder`, or the request line where the call was not understood.
    pub call: String,
    /// The merchant's number, if one was read.
    pub out_trade_no: Option<String>,
    /// `ok`, the gateway's error code, or the fault that struck.
    pub result: String,
    /// The gateway's words.
    pub message: String,
    /// What a developer needs to know.
    pub explanation: String,
}

/// The last calls.
#[derive(Debug, Default)]
pub struct Log {
    entries: Mutex<VecDeque<Entry>>,
}

impl Entry {
    /// A call that went well.
    pub fn ok(at: UnixMillis, channel: Channel, call: &str, out_trade_no: Option<String>) -> Self {
        Self {
            at: crate::domain::time::rfc3339(at),
            channel,
            call: call.to_owned(),
            out_trade_no,
            result: "ok".to_owned(),
            message: String::new(),
            explanation: String::new(),
        }
    }
}

impl Log {
    /// Adds one, drops the oldest.
    pub fn push(&self, entry: Entry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= KEPT {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// Newest first.
    pub fn newest_first(&self) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().rev().cloned().collect()
    }
}

const KEPT: usize = 300;
