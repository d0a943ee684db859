//! Buffers for parts, lent and lent again: an allocator that gets megabytes back from many threads keeps most of them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers of all parts under way. When the last one comes back all are freed, so that an idle bucket holds nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Stock>>);

#[derive(Debug, Default)]
struct Stock {
    free: Vec<Vec<u8>>,
    lent: usize,
}

impl Buffers {
    /// So many bytes as `fill` leaves them; it may find any in there.
    pub(super) fn filled<E>(
        &self,
        size: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Bytes, E> {
        let mut lent = self.lend(size);
        fill(&mut lent.bytes)?;
        Ok(Bytes::from_owner(lent))
    }

    fn lend(&self, size: usize) -> Lent {
        let mut bytes = {
            let mut stock = self.stock();
            stock.lent += 1;
            stock.free.pop().unwrap_or_default()
        };
        if bytes.capacity() < size {
            // Not grown, which would copy what nobody needs.
            bytes = Vec::new();
            bytes.reserve_exact(size);
        }
        bytes.resize(size, 0);
        Lent { bytes, home: self.clone() }
    }

    fn stock(&self) -> std::sync::MutexGuard<'_, Stock> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that goes back when nobody reads it any more.
struct Lent {
    bytes: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut stock = self.home.stock();
        stock.lent -= 1;
        stock.free.push(std::mem::take(&mut self.bytes));
        if stock.lent == 0 {
            stock.free = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffers: &Buffers, size: usize, byte: u8) -> Bytes {
        let fill = |bytes: &mut [u8]| {
            bytes.fill(byte);
            Ok::<_, ()>(())
        };
        buffers.filled(size, fill).unwrap()
    }

    /// Free and lent ones.
    fn counts(buffers: &Buffers) -> (usize, usize) {
        let stock = buffers.stock();
        (stock.free.len(), stock.lent)
    }

    #[test]
    fn a_buffer_is_lent_again_once_nobody_reads_it() {
        let buffers = Buffers::default();
        let held = filled(&buffers, 10, 1);
        let first = filled(&buffers, 100, 2);
        let (at, reader) = (first.as_ptr(), first.slice(50..));
        drop(first);
        assert_ne!(filled(&buffers, 100, 3).as_ptr(), at);
        assert_eq!(reader, [2; 50][..]);
        drop(reader);
        let again = filled(&buffers, 80, 4);
        assert_eq!((again.as_ptr(), &again[..]), (at, &[4; 80][..]));
        assert_eq!(held, [1; 10][..]);
    }

    #[test]
    fn nothing_is_held_when_nothing_is_lent() {
        let buffers = Buffers::default();
        let held = filled(&buffers, 10, 1);
        assert!(buffers.filled(10, |_| Err(())).is_err());
        assert_eq!(counts(&buffers), (1, 1));
        drop(held);
        assert_eq!(counts(&buffers), (0, 0));
    }
}
