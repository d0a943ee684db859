//! How many bytes went over the network, and how many did not have to.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::Moved;

/// Counts while artifacts are taken in and placed; shared by everything that moves bytes for one purpose.
#[derive(Debug, Default)]
pub struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
    spared: AtomicU64,
    to_send: AtomicU64,
    to_receive: AtomicU64,
}

impl Traffic {
    /// Counts bytes that were sent.
    pub fn send(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that were received.
    pub fn receive(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that did not have to be moved.
    pub fn spare(&self, bytes: u64) {
        self.spared.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says that so many bytes are going to be sent.
    pub fn expect_to_send(&self, bytes: u64) {
        self.to_send.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says that so many of those need not be sent after all.
    pub fn need_not_send(&self, bytes: u64) {
        self.to_send.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Says that so many bytes are going to be received.
    pub fn expect_to_receive(&self, bytes: u64) {
        self.to_receive.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says that what was announced and has not moved is not on its way any more: the next try announces it anew.
    pub fn expect_no_more(&self) {
        self.to_send.store(self.sent.load(Ordering::Relaxed), Ordering::Relaxed);
        self.to_receive.store(self.received.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// How many bytes were announced until now, to send and to receive; also those that were moved since.
    pub fn expected(&self) -> (u64, u64) {
        (self.to_send.load(Ordering::Relaxed), self.to_receive.load(Ordering::Relaxed))
    }

    /// What was counted until now.
    pub fn moved(&self) -> Moved {
        Moved {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            spared: self.spared.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_announced_anew() {
        let traffic = Traffic::default();
        traffic.expect_to_send(100);
        traffic.send(40);
        traffic.expect_no_more();
        assert_eq!(traffic.expected(), (40, 0), "the rest is not on its way");
        traffic.expect_to_send(60);
        traffic.send(50);
        traffic.need_not_send(10);
        assert_eq!((traffic.moved().sent, traffic.expected()), (90, (90, 0)));
    }
}
